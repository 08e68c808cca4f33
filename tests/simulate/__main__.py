"""Plays simulated sessions: `python -m tests.simulate --tasks 1000000`.

Those of one seed and one number of tasks are always the same. What fails is made smaller, and told.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

from .plan import FAULTS
from .run import SESSION, look, told

if TYPE_CHECKING:
    from .session import SimSession


def main() -> int:
    """Play, and return the exit status: 1 if something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulate", description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000, help="how many, in all sessions")
    parser.add_argument("--seed", type=int, default=0, help="of the first session")
    parser.add_argument(
        "--faults", default=",".join(FAULTS), help="which, by comma; empty: none at all"
    )
    parser.add_argument("--shrink", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--digest", action="store_true", help="print one for each session")
    given = parser.parse_args()
    faults = tuple(each for each in given.faults.split(",") if each)
    if unknown := set(faults) - set(FAULTS):
        parser.error(f"there are no faults {sorted(unknown)}; there are {','.join(FAULTS)}")
    counts: Counter[str] = Counter()
    begun = time.process_time()

    def count(session: SimSession) -> None:
        counts.update(session.witness.counts)
        counts["tasks"] += len(session.witness.facts)
        counts["events"] += len(session.trace)
        counts["faults"] += session.plan.faults
        counts["sessions"] += 1
        if given.digest:
            print(session.digest())
        elif sys.stdout.isatty():
            print(f"\r{counts['tasks']:,} tasks", end="", flush=True)

    found = look(given.seed, given.tasks, faults, smaller=given.shrink, after=count)
    seconds = time.process_time() - begun
    if not given.digest:
        each = seconds / max(1, counts["tasks"]) * 1e6
        tasks, sessions = counts.pop("tasks", 0), counts.pop("sessions", 0)
        events, happened = counts.pop("events", 0), counts.pop("faults", 0)
        print(
            f"\r{tasks:,} tasks in {sessions:,} sessions of about {SESSION:,}: {events:,} events,"
        )
        print(f"{happened:,} faults, {seconds:.1f} s of processor time, {each:.0f} µs a task.")
        for name, number in sorted(counts.items(), key=lambda pair: -pair[1]):
            print(f"{number:10,} {name}")
    if found is None:
        return 0
    print(told(found), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
