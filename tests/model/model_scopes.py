"""What is explored: the quick scopes with every run of the tests, the thorough ones by ``explore.py``."""

from dataclasses import replace

from model_world import Budget, Scope

#: The smallest cluster with agents: two voters are a majority, S and one that holds no data.
THREE = Scope("", agents=("S", "O1"), swift=("O1",), voters=frozenset({"P", "S", "O1"}))
#: Three databases and nobody else: whoever is not the primary has to promise.
DATA = Scope(
    "",
    mode="quorum",
    sync=frozenset({"S", "T"}),
    agents=("S", "T"),
    swift=("S", "T"),
    voters=frozenset({"P", "S", "T"}),
)

ONE_COMMIT = Budget(commits=1, crashes=0, restarts=0, cycles=0, configs=0)
A_COMMIT_AND_A_CHANGE = Budget(commits=1, crashes=0, restarts=0, cycles=1, configs=0)
A_POWER_OFF = Budget(commits=0, crashes=1, restarts=0, cycles=0, configs=0)
A_RESTART = Budget(commits=0, crashes=0, restarts=1, cycles=0, configs=0)

#: The primary's own agent alone: whatever happens to the lock, it or Patroni did it.
OWN = Scope("", agents=("P",), swift=(), voters=frozenset({"P", "S", "O1"}), alarms=True)
A_COMMIT_AND_A_CRASH = Budget(commits=1, crashes=0, restarts=0, cycles=0, configs=0, ends=1)

QUICK = (
    replace(THREE, name="on", budget=ONE_COMMIT),
    replace(THREE, name="strict", mode="strict", swift=("S", "O1"), budget=ONE_COMMIT),
    replace(THREE, name="two", mode="two", sync=frozenset({"S", "T"}), swift=("S", "O1"), budget=ONE_COMMIT),
    replace(DATA, name="quorum", leading=(), swift=("T",), budget=ONE_COMMIT),
    replace(DATA, name="quorum changes"),
    Scope("five voters", budget=A_POWER_OFF),
    replace(THREE, name="restart", blind=True, budget=A_RESTART),
    replace(THREE, name="lost answers", lost_answers=True, split=True, leading=()),
    replace(
        THREE,
        name="synchronous mode off",
        budget=Budget(commits=1, crashes=0, restarts=0, cycles=0, configs=1),
        leading=(),
    ),
    replace(OWN, name="crash, on", budget=A_COMMIT_AND_A_CRASH._replace(cycles=1), lost_answers=True),
    replace(OWN, name="crash, strict", mode="strict", budget=A_COMMIT_AND_A_CRASH._replace(ends=2)),
    replace(OWN, name="crash, two", mode="two", sync=frozenset({"S", "T"}), budget=A_COMMIT_AND_A_CRASH),
    replace(OWN, name="crash, quorum", mode="quorum", sync=frozenset({"S", "T"}), budget=A_COMMIT_AND_A_CRASH),
    replace(OWN, name="crash, quorum of one", mode="quorum", budget=A_COMMIT_AND_A_CRASH),
)

A_COMMIT_AND_A_POWER_OFF = Budget(commits=1, crashes=1, restarts=0, cycles=0, configs=0)
EVERYTHING_ONCE = Budget(commits=1, crashes=1, restarts=1, cycles=1, configs=0)
BOTH = frozenset({"S", "T"})

THOROUGH = (
    replace(THREE, name="on, /sync changes", budget=A_COMMIT_AND_A_CHANGE),
    replace(THREE, name="on, two commits", budget=Budget(commits=2, crashes=0, restarts=0, cycles=0, configs=0)),
    replace(THREE, name="on, power-off", budget=A_COMMIT_AND_A_POWER_OFF),
    replace(THREE, name="strict, power-off", mode="strict", budget=A_COMMIT_AND_A_POWER_OFF),
    replace(THREE, name="two, power-off", mode="two", sync=BOTH, budget=A_COMMIT_AND_A_POWER_OFF),
    replace(THREE, name="on, late views and halves", halves=True, late_views=3, budget=A_COMMIT_AND_A_CHANGE),
    replace(THREE, name="on, answers lost", lost_answers=True, split=True, swift=(), budget=ONE_COMMIT),
    replace(THREE, name="on, all at once", blind=True, stalls=True, budget=EVERYTHING_ONCE),
    Scope("five voters, slow", swift=()),
    Scope("five voters, restarts", blind=True, budget=Budget(commits=0, crashes=1, restarts=2, cycles=0, configs=0)),
    Scope("five voters, commit", budget=ONE_COMMIT),
    replace(DATA, name="quorum", budget=ONE_COMMIT),
    replace(DATA, name="quorum, slow", swift=(), budget=ONE_COMMIT),
    replace(DATA, name="quorum, power-off", budget=A_COMMIT_AND_A_POWER_OFF),
    replace(DATA, name="quorum, two candidates", candidates=("S", "T"), budget=ONE_COMMIT),
    replace(DATA, name="quorum, five voters", agents=("S", "T", "O1", "O2"), swift=("S", "T", "O1", "O2"),
            voters=Scope.voters, leading=(), budget=ONE_COMMIT),
    replace(DATA, name="two, two candidates", mode="two", candidates=("S", "T"), budget=ONE_COMMIT),
    Scope("twice", agents=("S", "T", "O1"), swift=("S", "T", "O1"), voters=frozenset({"S", "T", "O1"}),
          candidates=("S", "T"), suspects=("P", "S"), leading=("P", "S"),
          budget=Budget(commits=0, crashes=2, restarts=0, cycles=0, configs=0)),
    replace(OWN, name="crash, on, power-off", lost_answers=True, halves=True, late_views=2,
            budget=Budget(commits=1, crashes=1, restarts=1, cycles=1, configs=0, ends=1)),
    replace(OWN, name="crash, on, twice", late_views=2,
            budget=Budget(commits=2, crashes=0, restarts=0, cycles=1, configs=0, ends=2)),
    replace(OWN, name="crash, two, answers lost", mode="two", sync=BOTH, lost_answers=True, late_views=2,
            budget=Budget(commits=1, crashes=0, restarts=0, cycles=1, configs=0, ends=1)),
    replace(OWN, name="crash, strict, answers lost", mode="strict", lost_answers=True, halves=True, late_views=2,
            budget=Budget(commits=1, crashes=0, restarts=0, cycles=1, configs=0, ends=1)),
    replace(THREE, name="crash, and a release", agents=("P", "S", "O1"), swift=("S", "O1"), alarms=True,
            budget=A_COMMIT_AND_A_CRASH),
)  # fmt: skip
