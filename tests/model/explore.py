"""Explore scopes of the model to their end, and print what was seen as a table.

python tests/model/explore.py --scope thorough
python tests/model/explore.py --scope "quorum, slow" --states 5000000
"""

import argparse
import sys

from model_agents import Model
from model_checker import explore, stuck, way_to
from model_scopes import QUICK, THOROUGH
from model_world import Scope

HEADER = f"{'scope':26} {'states':>9} {'transitions':>11} {'depth':>5} {'seconds':>7}  end"


def row(scope: Scope, states: int, seconds: float) -> tuple[str, bool]:
    """Explore one scope; returns what is to be printed, and whether nothing was found."""
    model = Model(scope)
    seen = explore(model.initial, model.successors, most_states=states, most_seconds=seconds, with_edges=True)
    end, more = "complete" if seen.complete else "bound reached", ""
    if seen.violation:
        end, more = seen.violation.invariant, "\n" + seen.told()
    elif seen.complete and (nowhere := stuck(seen, model.good)):
        end, more = "I5", f"\nfrom {len(nowhere)} states no way is back:\n" + way_to(seen, model.successors, nowhere[0])
    figures = f"{seen.count:9} {seen.transitions:11} {seen.depth:5} {seen.seconds:7.0f}"
    return f"{scope.name:26} {figures}  {end}{more}", not more


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scope", default="quick", help="quick, thorough, or the name of one scope")
    parser.add_argument("--states", type=int, default=2_000_000, help="the most states of a scope; about 1 kB each")
    parser.add_argument("--seconds", type=float, default=3600.0, help="the most seconds for a scope")
    options = parser.parse_args()
    groups = {"quick": QUICK, "thorough": THOROUGH}
    scopes = groups.get(options.scope) or [one for one in (*THOROUGH, *QUICK) if one.name == options.scope][:1]
    if not scopes:
        names = ", ".join(one.name for one in (*QUICK, *THOROUGH))
        parser.error(f"there is no scope {options.scope!r}; there are quick, thorough, and one by one: {names}")
    sys.stdout.write(HEADER + "\n")
    good = True
    for scope in scopes:
        text, well = row(scope, options.states, options.seconds)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        good = good and well
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
