"""One form for all states that are alike: what cannot matter any more is forgotten, revisions are counted anew.

Of a revision, only the order and the equality with others of its kind matter. So there may be any number of wrong
beliefs, releases and broken promises, and still a finite number of states; nothing has to be bounded for that.
"""

from collections.abc import Callable
from dataclasses import replace

from model_etcd import Snapshot, holds
from model_world import Agent, Host, World

from pgbaton.agent.decisions import verdict
from pgbaton.agent.decisions.terms import Case, State

#: Stands for every case that cannot succeed any more, wherever that is known or not.
OVER = Case("", "", -1, -1, -1, -1)

#: Store and leader revisions count from here, so that a new revision is later than any of the other kinds.
FIRST = 10

Etcd = tuple[Snapshot, ...]
CanSucceed = Callable[[int, Snapshot], bool]


class Forms:
    """The numbers that stand for memories and cases, and what each becomes under a history of etcd."""

    def __init__(self) -> None:
        self.memories: list[State] = []
        self.cases: list[Case] = []
        self._numbers: dict[State | Case, int] = {}
        self._orders: dict[Etcd, _Order] = {}

    def memory(self, state: State) -> int:
        return self._number(state, self.memories)

    def case(self, case: Case) -> int:
        return self._number(case, self.cases)

    def _number(self, thing: State | Case, things: list) -> int:
        number = self._numbers.setdefault(thing, len(things))
        if number == len(things):
            things.append(thing)
        return number

    def of(self, world: World, before: World, can_succeed: CanSucceed) -> World:
        """Return the form of a state that came from one in its form."""
        order = self._orders.get(world.etcd)
        if order is None:
            order = self._orders[world.etcd] = _Order(world.etcd)
        elif world.etcd is before.etcd and order.is_form:
            return self._changed(world, before, order, can_succeed)
        shortened = [self._shortened(agent, order, can_succeed) for agent in world.agents]
        if all(known for _, known, _ in shortened):
            named = tuple([self._renamed(short, counted, order) for short, _, counted in shortened])
            hosts = tuple([order.host(host, named=True) for host in world.hosts])
            return tuple.__new__(World, (order.form, hosts, named, *world[3:]))
        hosts = tuple([order.host(host, named=False) for host in world.hosts])
        return tuple.__new__(World, (world.etcd, hosts, tuple([short for short, _, _ in shortened]), *world[3:]))

    def _changed(self, world: World, before: World, order: "_Order", can_succeed: CanSucceed) -> World:
        """Return the form of a state with the etcd of the one before: only what is not as it was can have another."""
        etcd, hosts, agents, *rest = world
        if agents is not before.agents:
            pairs = zip(agents, before.agents, strict=True)
            agents = tuple([new if new is old else self._shortened(new, order, can_succeed)[0] for new, old in pairs])
        if hosts is not before.hosts:
            both = zip(hosts, before.hosts, strict=True)
            hosts = tuple([new if new is old else order.host(new, named=False) for new, old in both])
        return tuple.__new__(World, (etcd, hosts, agents, *rest))

    def _shortened(self, agent: Agent, order: "_Order", can_succeed: CanSucceed) -> tuple[Agent, bool, int]:
        """Return an agent without what cannot matter, whether all its revisions are known, and its memory renamed."""
        known = order.shortened.get(agent)
        if known is None:
            known = order.shortened[agent] = self._shorten(agent, order, can_succeed)
        return known

    def _shorten(self, agent: Agent, order: "_Order", can_succeed: CanSucceed) -> tuple[Agent, bool, int]:
        etcd = order.etcd
        store, cast, requests = etcd[-1], agent.cast, agent.requests
        if cast:
            cast = tuple(one for one in cast if self.cases[one].leader_revision < 0 or can_succeed(one, store))
        if requests:
            requests = tuple(sorted({one for each in requests if (one := self._request(each, store, can_succeed))}))
        if agent.memory not in order.memories:
            state = self._essence(self.memories[agent.memory], etcd, can_succeed)
            short = self.memory(state)
            order.memories[agent.memory] = short, self.memory(order.state(state)) if order.has(state) else -1
        short, counted = order.memories[agent.memory]
        named = (*cast, *(number for kind, _, number in requests if is_of_case(kind)))
        known = counted >= 0 and all(self._case(one, order)[1] for one in named)
        if (short, cast, requests) != (agent.memory, agent.cast, agent.requests):
            agent = agent._replace(memory=short, cast=cast, requests=requests)
        return agent, known, counted

    def _essence(self, state: State, etcd: Etcd, can_succeed: CanSucceed) -> State:
        """Return what of a memory can make a difference: of the cases that are over, only that there is one."""
        store = etcd[-1]

        def alive(case: Case) -> bool:
            return can_succeed(self.case(case), store)

        def ended(case: Case) -> Case:
            known = all(view.leader_revision != case.leader_revision <= view.revision for view in etcd)
            return replace(OVER, primary=case.primary, leader_revision=-1 if known else case.leader_revision)

        own = state.case is not None and alive(state.case)
        return State(
            case=state.case if own else None,
            votes=state.votes if own else frozenset(),
            releasing=state.releasing and own,
            promises=frozenset(case if alive(case) else ended(case) for case in state.promises),
            owed=frozenset(case for case in state.owed if alive(case)),
            remembered=state.remembered,
            lowering=state.lowering,
            revoking=state.revoking if state.revoking is None or alive(state.revoking) else ended(state.revoking),
            resigning=state.resigning if state.resigning is not None and alive(state.resigning) else None,
            seen=state.seen if state.seen > etcd[0].revision else 0,
        )

    def _request(
        self, request: tuple[str, str, int], store: Snapshot, can_succeed: CanSucceed
    ) -> tuple[str, str, int] | None:
        kind, host, number = request
        if is_of_case(kind):
            return request if can_succeed(number, store) else None
        if "break" in kind and not (number >= 0 and holds(verdict.breaking(number), store)):
            return None if "late" in kind else (kind, host, -1)
        return request

    def _case(self, number: int, order: "_Order") -> tuple[int, bool]:
        if number not in order.cases:
            case = self.cases[number]
            known = order.has_case(case)
            order.cases[number] = (self.case(order.case(case)) if known else number, known)
        return order.cases[number]

    def _renamed(self, agent: Agent, memory: int, order: "_Order") -> Agent:
        """Return an agent, shortened already, in revisions counted anew."""
        renamed = order.renamed.get(agent)
        if renamed is None:
            renamed = order.renamed[agent] = self._rename(agent, memory, order)
        return renamed

    def _rename(self, agent: Agent, memory: int, order: "_Order") -> Agent:
        if not agent.cast and not agent.requests:
            return agent if memory == agent.memory else agent._replace(memory=memory)
        requests = tuple(
            (kind, host, self._case(number, order)[0] if is_of_case(kind) else order.store.get(number, number))
            if kind != "revoke"
            else (kind, host, number)
            for kind, host, number in agent.requests
        )
        cast = tuple(sorted(self._case(one, order)[0] for one in agent.cast))
        return agent._replace(memory=memory, cast=cast, requests=tuple(sorted(requests)))


class _Order:
    """New numbers for the revisions of a history: those of the store and the leader, and each other kind for itself.

    What agents, hosts, memories and cases become under this history is kept: most steps change one of them.
    """

    def __init__(self, etcd: Etcd) -> None:
        self.etcd = etcd
        self.shortened: dict[Agent, tuple[Agent, bool, int]] = {}
        self.renamed: dict[Agent, Agent] = {}
        self.memories: dict[int, tuple[int, int]] = {}
        self.cases: dict[int, tuple[int, bool]] = {}
        self._hosts: dict[bool, dict[Host, Host]] = {True: {}, False: {}}
        both = {number for view in etcd for number in (view.revision, view.leader_revision, view.freed)}
        self.store = {0: 0, -1: -1} | {old: new for new, old in enumerate(sorted(both - {0}), FIRST)}
        self.sync = _counted(view.sync_revision for view in etcd)
        self.config = _counted(view.config_revision for view in etcd)
        self.verdict = _counted(view.verdict_revision for view in etcd)
        self.form = tuple(map(self.snapshot, etcd))
        self.is_form = self.form == etcd

    def host(self, host: Host, *, named: bool) -> Host:
        """Return the form of a host, with its revisions counted anew when it is ``named``."""
        known = self._hosts[named]
        found = known.get(host)
        if found is None:
            found = known[host] = _host(host, self.etcd, self if named else None)
        return found

    def snapshot(self, view: Snapshot) -> Snapshot:
        return view._replace(
            revision=self.store[view.revision],
            leader_revision=self.store[view.leader_revision],
            freed=self.store[view.freed],
            sync_revision=self.sync[view.sync_revision],
            config_revision=self.config[view.config_revision],
            verdict_revision=self.verdict[view.verdict_revision],
        )

    def has_case(self, case: Case) -> bool:
        return (
            case.leader_revision in self.store
            and case.sync_revision in self.sync
            and case.config_revision in self.config
            and case.verdict_revision in self.verdict
        )

    def case(self, case: Case) -> Case:
        return replace(
            case,
            leader_revision=self.store[case.leader_revision],
            sync_revision=self.sync[case.sync_revision],
            config_revision=self.config[case.config_revision],
            verdict_revision=self.verdict[case.verdict_revision],
        )

    def has(self, state: State) -> bool:
        return state.seen in self.store and all(map(self.has_case, _cases_of(state)))

    def state(self, state: State) -> State:
        return replace(
            state,
            case=state.case and self.case(state.case),
            promises=frozenset(map(self.case, state.promises)),
            owed=frozenset(map(self.case, state.owed)),
            revoking=state.revoking and self.case(state.revoking),
            resigning=state.resigning and self.case(state.resigning),
            seen=self.store[state.seen],
        )


def is_of_case(kind: str) -> bool:
    """Tell whether the number that goes with a request to etcd is a case's."""
    return kind.removeprefix("late ") in {"release", "resign"}


def _counted(revisions: object) -> dict[int, int]:
    return {0: 0, -1: -1} | {old: new for new, old in enumerate(sorted({*revisions} - {0}), 1)}


def _cases_of(state: State) -> list[Case]:
    own = state.case, state.revoking, state.resigning
    return [case for case in (*own, *state.promises, *state.owed) if case is not None]


def _host(host: Host, etcd: Etcd, order: _Order | None) -> Host:
    """Return a host without revisions that equal nothing any more, the others counted anew."""
    version = host.version if host.plan and host.version == etcd[-1].sync_revision else 0
    followed = host.followed if any(host.followed == view.leader_revision for view in etcd) else 0
    wrote = host.wrote if etcd[0].sync_revision < host.wrote else 0
    plan = host.plan
    if plan and plan[0][0] == "acquire":
        current = etcd[-1].leader is None and plan[0][1] == etcd[-1].freed
        plan = (("acquire", (order.store[plan[0][1]] if order else plan[0][1]) if current else -1),)
    if order:
        version, wrote, followed = order.sync[version], order.sync[wrote], order.store[followed]
    if (version, wrote, followed, plan) == (host.version, host.wrote, host.followed, host.plan):
        return host
    return host._replace(version=version, wrote=wrote, followed=followed, plan=plan)
