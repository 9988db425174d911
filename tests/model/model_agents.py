"""The steps of the agents: each runs the very code of ``verdict.step``, and what it returns is done later, or never.

What must not be:

- I1: who is promoted lacks what was acknowledged, or somebody acknowledges what the one promoted since does not have;
- I2: what was acknowledged is in no single log;
- I3: a lock is released without the votes of a majority of all voters, each of which held the primary to be silent when
  it voted, and had not slept;
- I4: a vote without its fence; a fence that falls while a case that rests on it can still succeed, or has, and the
  primary neither leads again nor is in recovery;
- I5: a state from which, without another fault, no way leads back to one in which a primary acknowledges, no fence
  stands and nothing is promised;
- I6: a lock is released for one that may not be promoted, or given up for nobody.

The two observers are interchangeable, and of two states that differ only in which of them is which, one is kept. So in
a trace O1 may become O2 from one step to the next.
"""

from collections.abc import Iterator
from dataclasses import replace

from model_checker import Step, Violation
from model_databases import database_steps, stored
from model_etcd import Snapshot, carried_out, freed, holds, lock
from model_forms import OVER, Forms, is_of_case
from model_patroni import subsets
from model_world import DATABASES, Scope, World, acknowledges, first

from pgbaton.agent.decisions import terms, verdict
from pgbaton.agent.decisions.terms import (
    Action,
    Answered,
    Ask,
    Asked,
    Break,
    Broken,
    Event,
    Fence,
    Fenced,
    Outcome,
    Release,
    Resign,
    Revoke,
    State,
    Tick,
    Unfence,
    Unfenced,
    View,
    Vote,
    Voted,
)

#: Who is held to be silent, whether the agent slept, and whether its own server is held to have crashed.
Belief = tuple[frozenset[str], bool, bool]

#: What may come of an event: whether without a fault, what is remembered and done, and what was seen for it.
Outlook = tuple[bool, int, tuple[Action, ...], Snapshot | None, Belief]


class Model:
    """One exploration: the scope, and the numbers that stand for memories and cases."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.rules = tuple(scope.rules(name) for name in scope.agents)
        self.forms = Forms()
        self.memories, self.cases = self.forms.memories, self.forms.cases
        self.memory, self.case = self.forms.memory, self.forms.case
        self._thoughts: dict[object, tuple[int, int, tuple[Action, ...]]] = {}
        self._outcomes: dict[object, tuple[Outlook, ...]] = {}
        self._alive: dict[tuple[int, Snapshot], bool] = {}
        self._cores: dict[int, int] = {}
        self._swapped: dict[int, int] = {}
        self.initial = first(scope, self.memory(State()))

    def successors(self, world: World) -> Iterator[Step]:
        """Return every step that can be taken."""
        for label, after, normal in self._steps(world):
            yield label, after if isinstance(after, Violation) else self._canonical(after, world), normal

    def good(self, world: World) -> bool:
        """Tell whether all is well again: a primary acknowledges, no fence stands and nothing is promised."""
        return acknowledges(world, self.scope) and not any(
            agent.fences or agent.queue or self.memories[agent.memory].promises for agent in world.agents
        )

    def _steps(self, world: World) -> Iterator[Step]:
        yield from database_steps(world, self.scope)
        for at, name in enumerate(self.scope.agents):
            agent = world.agents[at]
            for request in agent.requests:
                yield from self._reaches_etcd(world, at, request)
            if _is_off(world, name):
                continue
            yield from self._thinks(world, at, Tick(), (f"{name}:", "looks"))
            for other, sender in enumerate(self.scope.agents):
                if other != at:
                    yield from self._hears(world, at, sender, world.agents[other].cast)
            if agent.queue:
                yield from self._acts(world, at)
            if world.budget.restarts:
                yield (f"{name}:", "restarts; its fences stand"), self._restarted(world, at).spent("restarts"), False

    def _restarted(self, world: World, at: int) -> World:
        """Return the world with an agent that knows nothing; what it asked etcd for may happen yet."""
        late = tuple(
            request if request[0].startswith("late") else (f"late {request[0]}", *request[1:])
            for request in world.agents[at].requests
            if request[0] != "revoke"
        )
        return world.with_agent(at, memory=self.memory(State()), queue=(), requests=late)

    # What an agent takes in.

    def _hears(self, world: World, at: int, sender: str, cast: tuple[int, ...]) -> Iterator[Step]:
        """Take in what another sent: its question, which goes with its own vote, or its vote."""
        name, state = self.scope.agents[at], self.memories[world.agents[at].memory]
        for number in cast:
            case = self.cases[number]
            if case.candidate == sender:
                yield from self._thinks(world, at, Asked(case), (f"{name}:", "is asked by", sender), case.primary)
            elif case.candidate == name and not (state.case == case and sender in state.votes):
                yield from self._thinks(
                    world, at, Voted(sender, case), (f"{name}:", "gets the vote of", sender), case.primary
                )

    def _thinks(
        self, world: World, at: int, event: Event, label: tuple[object, ...], silent: str = "", *, always: bool = False
    ) -> Iterator[Step]:
        """Run the agent's code on an event, for each view that it may have of etcd and each belief about the others.

        Views that lead to the same but for how new they were count as the oldest of them: it leaves most open.
        """
        agent, name = world.agents[at], self.scope.agents[at]
        suspects = [world.host(one) for one in self.scope.suspects]
        off, followed = tuple([one.role == "off" for one in suspects]), tuple([one.followed for one in suspects])
        key = (at, agent.memory, agent.fences, world.etcd, off, _is_down(world, name), followed, event, silent, always)
        outcomes = self._outcomes.get(key)
        if outcomes is None:
            outcomes = self._outcomes[key] = self._thought_over(world, at, event, silent, always=always)
        oldest: dict[object, World] = {}
        for normal, after, actions, view, seen in outcomes:
            there = self._done(world.with_agent(at, memory=after), at, actions, stalled=seen[1])
            done = tuple(map(_named, actions))
            if actions and name in self.scope.swift:
                there, more = self._at_once(there, at, view, seen)
                done += more
                if not isinstance(there, Violation):
                    mine = there.agents[at]
                    there = oldest.setdefault((self._core(mine.memory), mine[1:], there.etcd, there.won), there)
            yield (*label, *_seen_as(view, seen), "->" if done else "", *done), there, normal

    def _thought_over(self, world: World, at: int, event: Event, silent: str, *, always: bool) -> tuple[Outlook, ...]:
        agent, name = world.agents[at], self.scope.agents[at]
        off = frozenset(one for one in self.scope.suspects if world.host(one).role == "off" and one != name)
        truth = (off, False, _is_down(world, name))
        core_before = self._core(agent.memory)
        blind = (None,) if self.scope.blind and isinstance(event, Asked) else ()
        outcomes: dict[object, Outlook] = {}
        for view in (*blind, *world.etcd):
            if view is not None and view.half:
                continue
            for seen in self._beliefs(world, at, silent):
                after, core, actions = self._thought(world, at, view, seen, event)
                if not always and not actions and core == core_before:
                    continue
                normal = view is world.store and seen == truth
                key = (core, actions, seen[1], view if actions and name in self.scope.swift else None)
                if key not in outcomes:
                    outcomes[key] = (normal, after, actions, view, seen)
                elif normal:
                    outcomes[key] = (True, *outcomes[key][1:])
        return tuple(outcomes.values())

    def _beliefs(self, world: World, at: int, silent: str) -> list[Belief]:
        name = self.scope.agents[at]
        others = frozenset(self.scope.suspects) - {name}
        is_alarmed = _is_down(world, name) or (self.scope.alarms and name in self.scope.suspects)
        beliefs = [
            (some, False, crashed)
            for some in subsets(others)
            if not silent or silent in some
            for crashed in ((False, True) if is_alarmed else (False,))
        ]
        return [*beliefs, (others, True, is_alarmed)] if self.scope.stalls else beliefs

    def _followers(self, world: World, view: Snapshot | None) -> frozenset[str]:
        """Return who is known to follow: who ever followed the leader of this view, even when it does no more."""
        if view is None:
            return frozenset()
        if self.scope.following != "the present leader":
            return frozenset(self.scope.suspects) - {view.leader}
        return frozenset(
            name
            for name in self.scope.suspects
            if view.leader not in {None, name} and world.host(name).followed == view.leader_revision
        )

    def _at_once(
        self, world: World | Violation, at: int, view: Snapshot | None, seen: Belief
    ) -> tuple[World | Violation, tuple[str, ...]]:
        """Do what is to be done without a pause, while the agent still sees the same."""
        done: tuple[str, ...] = ()
        while not isinstance(world, Violation):
            agent = world.agents[at]
            request = next((one for one in agent.requests if one[0] in {"release", "resign", "break"}), None)
            if agent.queue:
                (kind, host), *queue = agent.queue
                event: Event = Unfenced(host) if kind == "unfence" else Fenced(host)
                world = self._fence(world.with_agent(at, queue=tuple(queue)), at, kind, host)
            elif request is not None:
                before = world.with_agent(at, requests=tuple(one for one in agent.requests if one != request))
                world = self._carried_out(before, request)
                event = self._answer(request, before, world)
            else:
                break
            if not isinstance(world, Violation):
                memory, _, actions = self._thought(world, at, view, seen, event)
                world = self._done(world.with_agent(at, memory=memory), at, actions, stalled=seen[1])
                done += tuple(map(_named, actions))
        return world, done

    def _thought(
        self, world: World, at: int, view: Snapshot | None, seen: Belief, event: Event
    ) -> tuple[int, int, tuple[Action, ...]]:
        memory, fences, following = world.agents[at].memory, world.agents[at].fences, self._followers(world, view)
        key = (at, memory, view, seen, following, fences, event)
        thought = self._thoughts.get(key)
        if thought is None:
            look = View(
                silent=seen[0],
                agreed=seen[0],
                stalled=seen[1],
                lock=view and lock(view),
                fenced=frozenset(fences),
                following=following,
                crashed=seen[2],
            )
            state, actions = verdict.step(self.rules[at], self.memories[memory], look, event)
            number = self.memory(state)
            thought = self._thoughts[key] = (number, self._core(number), actions)
        return thought

    def _core(self, memory: int) -> int:
        """Return the number of what is remembered, but for how new the latest view was."""
        core = self._cores.get(memory)
        if core is None:
            state = self.memories[memory]
            core = self._cores[memory] = memory if not state.seen else self.memory(replace(state, seen=0))
        return core

    # What it does about it.

    def _done(self, world: World, at: int, actions: tuple[Action, ...], *, stalled: bool) -> World | Violation:
        after: World | Violation = world
        for action in actions:
            if not isinstance(after, Violation):
                after = self._begun(after, at, action, stalled=stalled)
        return after

    def _begun(self, world: World, at: int, action: Action, *, stalled: bool) -> World | Violation:
        match action:
            case Fence(host) | Unfence(host):
                order, queue = (_named(action).lower(), host), world.agents[at].queue
                return world if order in queue else world.with_agent(at, queue=(*queue, order))
            case Vote(case):
                wrong = self._wrong_vote(world, at, case, stalled=stalled)
                return wrong or self._cast(world, at, case)
            case Ask(case):
                return self._cast(world, at, case)
            case Release(case) | Resign(case):
                return self._requests(world, at, (_named(action).lower(), "", self.case(case)))
            case Revoke(case):
                return self._requests(world, at, ("revoke", case.primary, 1))
            case Break(host, revision):
                return self._requests(world, at, ("break", host, revision))

    def _wrong_vote(self, world: World, at: int, case: terms.Case, *, stalled: bool) -> Violation | None:
        agent, name = world.agents[at], self.scope.agents[at]
        if case.primary not in agent.fences or ("unfence", case.primary) in agent.queue:
            return Violation("I4", f"{name} votes, and its fence against {case.primary} does not stand")
        return Violation("I3", f"{name} votes, and it slept") if stalled else None

    def _cast(self, world: World, at: int, case: terms.Case) -> World:
        return world.with_agent(at, cast=tuple(sorted({*world.agents[at].cast, self.case(case)})))

    def _requests(self, world: World, at: int, request: tuple[str, str, int]) -> World:
        return world.with_agent(at, requests=tuple(sorted({*world.agents[at].requests, request})))

    def _acts(self, world: World, at: int) -> Iterator[Step]:
        """Carry out what is first in the queue, and take in that it is done."""
        agent, name = world.agents[at], self.scope.agents[at]
        (kind, host), queue = agent.queue[0], agent.queue[1:]
        done = self._fence(world.with_agent(at, queue=queue), at, kind, host)
        label = (f"{name}:", f"{kind}s", host)
        if isinstance(done, Violation):
            yield label, done, True
        elif self.scope.split and not kind.startswith("told"):
            yield label, done.with_agent(at, queue=((f"told {kind}", host), *queue)), True
        else:
            event = Unfenced(host) if kind.endswith("unfence") else Fenced(host)
            yield from self._thinks(done, at, event, label, always=True)

    def _fence(self, world: World, at: int, kind: str, host: str) -> World | Violation:
        """Let a fence rise or fall."""
        agent = world.agents[at]
        if kind == "fence":
            return world.with_agent(at, fences=tuple(sorted({*agent.fences, host})))
        if kind != "unfence":
            return world
        resting = [number for number in agent.cast if self.cases[number].primary == host]
        if any(self._can_succeed(number, world.store) or number == world.won for number in resting):
            what = "has succeeded" if world.won in resting else "can still succeed"
            name = self.scope.agents[at]
            return Violation("I4", f"{name} lets its fence against {host} fall; a case that rests on it {what}")
        return world.with_agent(at, fences=tuple(one for one in agent.fences if one != host))

    def _reaches_etcd(self, world: World, at: int, request: tuple[str, str, int]) -> Iterator[Step]:
        """Let a request reach etcd, or not be answered; then it may still reach it later."""
        name, (kind, host, number) = self.scope.agents[at], request
        rest = tuple(other for other in world.agents[at].requests if other != request)
        world = world.with_agent(at, requests=rest)
        label = (f"{name}:", kind, host, self.cases[number] if is_of_case(kind) else number)
        if kind == "revoke":
            yield label, self._revoked(world, host, number), True
            return
        after = self._carried_out(world, request)
        if kind.startswith("late"):
            yield label, after, False
            return
        if isinstance(after, Violation):
            yield label, after, True
            return
        answer, won = self._answer(request, world, after), after is not world
        if won and kind == "release" and self.scope.revoke == "at once":
            after = self._requests(after, at, ("revoke", self.cases[number].primary, 1))
        yield from self._thinks(after, at, answer, (*label, "won" if won else "lost"), always=True)
        if self.scope.lost_answers:
            late = self._requests(world, at, (f"late {kind}", host, number))
            silence = Broken(host, None) if kind == "break" else Answered(self.cases[number], Outcome.UNKNOWN)
            for text, there, _ in self._thinks(late, at, silence, (*label, "no answer"), always=True):
                yield text, there, False

    def _answer(self, request: tuple[str, str, int], before: World, after: World | Violation) -> Event:
        kind, host, number = request
        won = isinstance(after, World) and after is not before
        if kind == "break":
            return Broken(host, after.store.verdict_revision if won else None)
        return Answered(self.cases[number], Outcome.WON if won else Outcome.LOST)

    def _carried_out(self, world: World, request: tuple[str, str, int]) -> World | Violation:
        kind, _, number = request
        if "break" in kind:
            transaction = verdict.breaking(number)
            if not holds(transaction, world.store):
                return world
            return stored(world, self.scope, *carried_out(transaction, world.store, self.scope.order))
        if not self._can_succeed(number, world.store):
            return world
        case = self.cases[number]
        wrong = self._wrong_release(world, number)
        if wrong:
            return wrong
        known = next((view for view in world.etcd if view.sync_revision == case.sync_revision), self.initial.store)
        steps = carried_out(verdict.transaction(case), world.store, self.scope.order, known)
        return stored(world, self.scope, *(steps if self.scope.halves else steps[-1:]))._replace(won=number)

    def _wrong_release(self, world: World, number: int) -> Violation | None:
        case, store = self.cases[number], world.store
        if case.candidate == case.primary:
            is_for_somebody = case.primary == store.sync_leader and store.sync
            return None if is_for_somebody else Violation("I6", f"{case.primary} gives up its lock for nobody")
        if case.candidate not in store.sync or case.primary != store.sync_leader:
            return Violation("I6", f"{case.primary}'s lock is released for {case.candidate}, which may not be promoted")
        voted = {name for name, agent in zip(self.scope.agents, world.agents, strict=True) if number in agent.cast}
        if 2 * len(voted) <= len(self.scope.voters):
            told = f"{case.primary}'s lock is released by {sorted(voted)} of {sorted(self.scope.voters)}"
            return Violation("I3", told)
        return None

    def _revoked(self, world: World, host: str, lease: int) -> World:
        if world.host(host).lease == lease:
            world = world.with_host(host, alive=False)
        attached = world.store.leader == host and world.store.lease == lease
        return stored(world, self.scope, freed(world.store)) if attached else world

    def _can_succeed(self, number: int, store: Snapshot) -> bool:
        key = (number, store)
        alive = self._alive.get(key)
        if alive is None:
            alive = self._alive[key] = holds(verdict.transaction(self.cases[number]), store)
        return alive

    def _canonical(self, world: World, before: World) -> World:
        """Return what stands for this state and all that are like it."""
        if world.hosts is not before.hosts:
            for at, name in enumerate(self.scope.agents):
                if _is_off(world, name):
                    world = self._restarted(world, at)
        if world.won >= 0:
            primary = self.cases[world.won].primary
            over = world.store.leader == primary or world.host(primary).role == "standby"
            won = -1 if over else self.case(replace(OVER, primary=primary))
            if won != world.won:
                agents = tuple(agent._replace(cast=_exchanged(agent.cast, world.won, won)) for agent in world.agents)
                world = world._replace(won=won, agents=agents)
        world = self.forms.of(world, before, self._can_succeed)
        if self.scope.agents[-2:] == ("O1", "O2"):
            agents = world.agents
            mirrored = (*(one._replace(memory=self._mirror(one.memory)) for one in agents[:-2]), agents[-1], agents[-2])
            if (mirrored[-2:], mirrored[:-2]) < (agents[-2:], agents[:-2]):
                return world._replace(agents=mirrored)
        return world

    def _mirror(self, memory: int) -> int:
        """Return what is remembered with the observers' names exchanged."""
        if memory not in self._swapped:
            state, names = self.memories[memory], {"O1": "O2", "O2": "O1"}
            votes = frozenset(names.get(name, name) for name in state.votes)
            self._swapped[memory] = self.memory(replace(state, votes=votes))
        return self._swapped[memory]


def _is_off(world: World, name: str) -> bool:
    return name in DATABASES and world.host(name).role == "off"


def _is_down(world: World, name: str) -> bool:
    return name in DATABASES and world.host(name).role == "down"


def _exchanged(cast: tuple[int, ...], old: int, new: int) -> tuple[int, ...]:
    return tuple(sorted({new if one == old else one for one in cast} - {-1}))


def _seen_as(view: Snapshot | None, belief: Belief) -> tuple[str, ...]:
    silent, stalled, crashed = belief
    return (
        "blind" if view is None else f"at {view.revision}",
        f"holds {'+'.join(sorted(silent))} to be silent" if silent else "hears all",
        "but slept" if stalled else "",
        "and its own server to have crashed" if crashed else "",
    )


def _named(action: Action) -> str:
    return type(action).__name__
