"""python -m tests.faults [SHARE]: all tries, as the table of docs/reliability.md."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.faults.programs import prepare
from tests.faults.tries import Bench, plans, tried


def main() -> int:
    """Try, and print a row a plan."""
    share = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    wrong = 0
    print("| fault | kind of run | tries | how they ended | wrong |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="faults-") as root:
        inputs = Path(root) / "inputs"
        inputs.mkdir()
        prepare(inputs)
        bench = Bench(inputs, Path(root))
        begun = time.perf_counter()
        for plan in plans(share):
            tally = tried(bench, plan)
            ends = ", ".join(f"{count} {end}" for end, count in sorted(tally.ends.items()) if count)
            print(f"| {tally.fault} | {tally.kind} | {tally.tries} | {ends} | {len(tally.wrong)} |", flush=True)
            wrong += len(tally.wrong)
            for line in tally.wrong:
                print(line, file=sys.stderr, flush=True)
        print(f"\n{wrong} wrong, {time.perf_counter() - begun:.0f} s")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
