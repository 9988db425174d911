"""The steps of PostgreSQL and Patroni on the three databases."""

from collections.abc import Iterator

from model_checker import Step, Violation
from model_etcd import Snapshot, freed, led, synced
from model_patroni import ANYBODY, NOBODY, Names, multisync, quorum, subsets
from model_world import DATABASES, Scope, World, confirmed, fences_of


def stored(world: World, scope: Scope, *snapshots: Snapshot) -> World:
    """Return the world after changes of the store; the oldest that views may show falls away."""
    return World((*world.etcd, *snapshots)[-1 - scope.late_views :], *world[1:])


def database_steps(world: World, scope: Scope) -> Iterator[Step]:
    """Return what may happen to databases and their leader lock."""
    for name in DATABASES:
        role = world.host(name).role
        if role == "primary":
            yield from _commits(world, name)
            yield from _leads(world, scope, name)
            yield from _falls(world, scope, name)
        elif role == "standby":
            yield from _replicates(world, scope, name)
            yield from _races(world, scope, name)
            yield from _promotes(world, scope, name)
        elif role == "down":
            yield from _recovers(world, scope, name)
            yield from _falls(world, scope, name)
        elif not scope.buried:
            yield (f"{name}:", "boots"), world.with_host(name, role="standby", lease=world.host(name).lease + 1), True
    if not scope.buried:
        yield from _expires(world, scope)
    yield from _reconfigured(world, scope)


def _commits(world: World, name: str) -> Iterator[Step]:
    host, own = world.host(name), 10 * DATABASES.index(name)
    mine = [commit for commit in host.log if own < commit < own + 10]
    if world.budget.commits:
        after = world.with_host(name, log=(*host.log, own + len(mine) + 1)).spent("commits")
        yield (f"{name}:", "writes commit", own + len(mine) + 1), after, True
    for commit in mine:
        if commit not in world.acked and confirmed(world, name, commit):
            yield (f"{name}:", "acknowledges commit", commit), _acknowledged(world, name, commit), True
            return


def _acknowledged(world: World, name: str, commit: int) -> World | Violation:
    """Tell a client of a commit: the last who was promoted has it, and all that clients were ever told of.

    An older primary may get a confirmation that was on its way; its commit is in the new one's log then, before all
    that is new there.
    """
    log = world.host(world.top).log
    if commit not in log:
        return Violation("I1", f"{name} acknowledges {commit}, and {world.top} was promoted without it")
    missing = world.acked - frozenset(log)
    if missing:
        return Violation("I2", f"{name} acknowledges without what another acknowledged: {sorted(missing)}")
    return world._replace(acked=world.acked | {commit})


def _leads(world: World, scope: Scope, name: str) -> Iterator[Step]:
    """Take the next step of a cycle, or begin one; refresh, take back or give up the lock."""
    host, leader = world.host(name), world.store.leader
    if host.plan:
        yield from _goes_on(world, scope, name)
    elif leader is None or (scope.overwrites and leader != name and not host.alive):
        after = _with_lock(world, scope, name)
        yield (
            (f"{name}:", "takes the", "free lock," if leader is None else f"lock of {leader},", "still primary"),
            after,
            True,
        )
    elif leader != name:
        after = world.with_host(name, role="standby", ssn=(0, NOBODY), upstream="", plan=())
        yield (f"{name}:", "sees", leader, "lead and demotes itself"), after, True
    if not host.plan and host.alive and name in scope.leading:
        yield from _begins(world, scope, name)


def _with_lock(world: World, scope: Scope, name: str) -> World:
    """Return the world in which a database has put the leader key, with a new lease if the old one was revoked."""
    host = world.host(name)
    lease = host.lease if host.alive else host.lease + 1
    after = stored(world, scope, led(world.store, name, lease))
    return after.with_host(name, lease=lease, alive=True, plan=())


def _begins(world: World, scope: Scope, name: str) -> Iterator[Step]:
    """Begin a cycle on any view in which it leads: its lease lives, so it believes it. The choice of standbys is free.

    What Patroni put itself it sees at once, also when nothing else reaches it.
    """
    others = frozenset(DATABASES) - {name}
    connected = frozenset(
        other
        for other in others
        if world.host(other).role == "standby"
        and world.host(other).upstream == name
        and name not in fences_of(world, scope, other)
    )
    host = world.host(name)
    for late in world.etcd:
        if late.leader != name:
            continue
        mine = next((one for one in world.etcd if one.sync_revision == host.wrote > late.sync_revision), late)
        view = late._replace(
            sync_leader=mine.sync_leader, sync=mine.sync, quorum=mine.quorum, sync_revision=mine.sync_revision
        )
        for active in subsets(others):
            normal = late is world.store and active == _picked(scope, connected)
            if len(_picked(scope, active)) < len(active) or not (normal or world.budget.cycles):
                continue
            plan = _plan(world, scope, name, view, active)
            if plan:
                after = world.with_host(name, plan=plan, version=view.sync_revision)
                label = (
                    f"{name}:",
                    "sees itself lead at",
                    view.revision,
                    "half" if view.half else "",
                    "and plans",
                    *plan,
                )
                yield label, after if normal else after.spent("cycles"), normal


def _picked(scope: Scope, active: Names) -> Names:
    return active if scope.mode == "quorum" else frozenset(sorted(active)[: scope.standbys_wanted])


def _plan(world: World, scope: Scope, name: str, view: Snapshot, active: Names) -> tuple[tuple[object, ...], ...]:
    host = world.host(name)
    if not view.synchronous:
        return (("off",), ("ssn", 0, NOBODY)) if view.sync_leader or host.ssn[0] else ()
    known = active & host.ssn[1]
    ready = frozenset(other for other in known if _caught_up(world, name, other))
    if scope.mode == "quorum":
        if view.sync_leader != name:  # the rows for a new leader are not in the table
            return ()
        return quorum(voters=view.sync, lacking=view.quorum, ssn=host.ssn, active=active, confirmed=ready)
    return multisync(
        voters=view.sync,
        ssn=host.ssn,
        picked=active,
        confirmed=ready | (known & view.sync),
        strict=scope.strict,
    )


def _caught_up(world: World, name: str, other: str) -> bool:
    """Tell whether a standby has all that was written when ``synchronous_standby_names`` was last set."""
    host, standby = world.host(name), world.host(other)
    have = standby.log[: host.flush] == host.log[: host.flush]
    return have and standby.role == "standby" and standby.upstream == name


def _goes_on(world: World, scope: Scope, name: str) -> Iterator[Step]:
    host, store = world.host(name), world.store
    (kind, *rest), plan = host.plan[0], host.plan[1:]
    label = (f"{name}:", "plan:", *host.plan[0])
    done, over = world.with_host(name, plan=plan), world.with_host(name, plan=())
    if kind in {"sync", "off"}:
        names, lacking = rest if kind == "sync" else (NOBODY, 0)
        if store.sync_revision != host.version:
            yield (*label, "fails"), over if kind == "sync" else done, True
            return
        if (
            scope.mode == "quorum"
            and not scope.lagging
            and any(_lacking(world, names, commit) > lacking for commit in world.acked)
        ):
            yield (*label, "has to wait"), over, True
            return
        after = synced(store, name if kind == "sync" else "", names, lacking)
        there = stored(done, scope, after)
        yield label, there.with_host(name, version=after.sync_revision, wrote=after.sync_revision), True
        if scope.lost_answers and plan:
            yield (*label, "and no answer comes"), stored(over, scope, after), False
    elif kind == "ssn":
        yield label, done.with_host(name, ssn=(rest[0], rest[1]), flush=len(host.log)), True
    elif kind == "confirm":
        names = frozenset(other for other in rest[0] if _caught_up(world, name, other))
        plan = (("sync", names, 0),) if names and names != rest[1] else ()
        yield label, world.with_host(name, plan=plan), True
    elif kind == "again":
        again = _plan(world, scope, name, store, rest[0]) if store.sync_revision == host.version else ()
        yield label, world.with_host(name, plan=() if again == host.plan else again), True


def _lacking(world: World, names: Names, commit: int) -> int:
    return sum(commit not in world.host(name).log for name in names)


def _recovers(world: World, scope: Scope, name: str) -> Iterator[Step]:
    """Let Patroni go on whose server has crashed: end its cycle, refresh or give up its lock, start the server.

    It never starts it as a primary, as ``primary_start_timeout`` is 0; one that still has the lock then promotes it.
    It looks for somebody who may be promoted before it gives the lock up, but not after a start that failed; and what
    it refreshes is the lock that it last saw as its own, which it makes anew when it is gone.
    """
    host, store = world.host(name), world.store
    if host.plan:
        yield from _goes_on(world, scope, name)
        return
    if store.leader == name:
        yield (f"{name}:", "gives up its lock"), stored(world, scope, freed(store)), True
    elif store.leader is None and any(view.leader == name for view in world.etcd):
        after = _with_lock(world, scope, name)
        yield (f"{name}:", "refreshes the lock that is gone, its server down"), after, True
    yield (f"{name}:", "starts its server again as a standby"), world.with_host(name, role="standby"), True


def _falls(world: World, scope: Scope, name: str) -> Iterator[Step]:
    if world.budget.crashes and name in scope.suspects:
        after = world.with_host(name, role="off", ssn=(0, NOBODY), upstream="", plan=())
        yield (f"{name}:", "loses its power"), after.spent("crashes"), False
    host = world.host(name)
    if world.budget.ends and name in scope.suspects and host.role == "primary":
        # What Patroni is about to ask etcd for, it asks for.
        plan = host.plan[:1] if host.plan and host.plan[0][0] in {"sync", "off"} else ()
        after = world.with_host(name, role="down", ssn=(0, NOBODY), upstream="", plan=plan)
        yield (f"{name}:", "has its server crash"), after.spent("ends"), False


def _replicates(world: World, scope: Scope, name: str) -> Iterator[Step]:
    host, leader = world.host(name), world.store.leader
    fences = fences_of(world, scope, name)
    source = host.upstream
    if source and source not in fences and world.host(source).role == "primary":
        log = world.host(source).log
        if len(host.log) < len(log) and log[: len(host.log)] == host.log:
            after = world.with_host(name, log=log[: len(host.log) + 1])
            yield (f"{name}:", "receives commit", log[len(host.log)], "from", source), after, True
    if leader is None or leader in {name, source} or leader in fences or world.host(leader).role != "primary":
        return
    log = world.host(leader).log
    mine = host.log if log[: len(host.log)] == host.log else log
    followed = world.store.leader_revision if name in scope.suspects else 0
    yield (f"{name}:", "follows", leader), world.with_host(name, upstream=leader, followed=followed, log=mine), True


def _races(world: World, scope: Scope, name: str) -> Iterator[Step]:
    """Acquire the free lock, when ``/sync`` allows it as seen since it is free."""
    host, store = world.host(name), world.store
    if host.plan:
        since = host.plan[0][1]
        if store.leader is None and (store.freed == since or scope.old_races):
            yield (f"{name}:", "acquires the lock"), _with_lock(world, scope, name), True
        elif not (store.leader is None and store.freed == since):
            yield (f"{name}:", "is too late for the lock"), world.with_host(name, plan=()), True
        return
    if store.leader is not None:
        return
    for view in world.etcd:
        current = view.leader is None and (view.freed == store.freed or scope.old_races)
        if not current or not _may_race(world, scope, name, view):
            continue
        if scope.mode == "quorum":
            after = world.with_host(name, plan=(("acquire", view.freed),))
            yield (f"{name}:", "sees the lock free, and enough that are not ahead"), after, True
        else:
            after = _with_lock(world, scope, name)
            yield (f"{name}:", "sees the lock free at", view.revision, "and acquires it"), after, True
        return


def _may_race(world: World, scope: Scope, name: str, view: Snapshot) -> bool:
    """Tell whether Patroni finds itself healthy enough: a primary, or one that is ahead, may not answer it."""
    members = view.sync | {view.sync_leader}
    if scope.mode != "quorum":
        return name in members
    log = world.host(name).log
    votes = sum(
        world.host(other).role == "standby" and world.host(other).log == log[: len(world.host(other).log)]
        for other in members
        if other in DATABASES and other != name
    )
    return votes - (name not in members) >= view.quorum or name == view.sync_leader


def _promotes(world: World, scope: Scope, name: str) -> Iterator[Step]:
    host, store = world.host(name), world.store
    if store.leader != name or host.plan:
        return
    if store.lease != host.lease:
        after = stored(world, scope, led(store, name, host.lease))
        yield (f"{name}:", "finds its own lock with an old lease and takes it over"), after, True
        return
    missing = world.acked - frozenset(host.log)
    if missing:
        yield (f"{name}:", "is promoted"), Violation("I1", f"{name} is promoted without {sorted(missing)}"), True
        return
    if scope.mode == "quorum":
        members = store.sync | {store.sync_leader}
        number = max(len(members) - store.quorum - (name in members), 0)
        ssn, after = (number, members - {name} if number else NOBODY), world
    else:
        ssn = (1, ANYBODY) if scope.strict else (0, NOBODY)
        after = stored(world, scope, synced(store, name, NOBODY, 0))
    wrote = after.store.sync_revision if after is not world else 0
    after = after.with_host(name, role="primary", ssn=ssn, upstream="", flush=len(host.log), wrote=wrote)
    yield (f"{name}:", "is promoted"), after._replace(top=name), True


def _expires(world: World, scope: Scope) -> Iterator[Step]:
    """Let the lock of a primary expire that is off, or was.

    One that runs refreshes it, or demotes itself before: Patroni rests on that, and the early release must not.
    """
    leader = world.store.leader
    if leader is not None:
        host = world.host(leader)
        if host.role == "off" or (host.role == "standby" and world.store.lease != host.lease):
            yield ("etcd:", "the lease of", leader, "expires"), stored(world, scope, freed(world.store)), True


def _reconfigured(world: World, scope: Scope) -> Iterator[Step]:
    store = world.store
    if world.budget.configs and store.synchronous:
        revision = store.revision + 1
        after = store._replace(revision=revision, config_revision=revision, synchronous=False, by_quorum=False)
        yield ("operator:", "turns synchronous mode off"), stored(world, scope, after).spent("configs"), False
