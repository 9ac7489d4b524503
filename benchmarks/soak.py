"""python -m benchmarks.soak [TEXTS ...]: many short texts through MiniLM: memory, files, and what going on costs.

Each number of texts is measured whole, killed half-way and gone on with, and shown again when it is done. Memory is the
most that a process ever held; it is given beside that of the least number of texts, so that growth can be seen.
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TEXTS = (2_000, 20_000, 200_000)
METRICS = "prompt_entropy,curvature,dataset_entropy"
WORDS = ("the", "a", "river", "house", "of", "and", "in", "runs", "old", "city", "was", "by", "north", "small", "green")


def write_texts(path: Path, n: int) -> None:
    """Short texts of 3 to 12 words."""
    draw = random.Random(n)
    with path.open("w", encoding="utf-8") as file:
        for number in range(n):
            file.write(f"{' '.join(draw.choice(WORDS) for _ in range(draw.randrange(3, 12)))} {number}\n")


def measure(texts: Path, out: Path, n: int, kill_after: int | None = None) -> tuple[float, float, float]:
    """Seconds in all, seconds until the first new block was done or nothing was left to do, and most memory in MB.

    With `kill_after`, the process is killed when so many blocks are there.
    """
    words = ["measure", "minilm-l6", "--texts", str(texts), "--n", str(n), "--metrics", METRICS, "--out", str(out)]
    before = set((out / "blocks").glob("block_*")) if out.exists() else set()
    begun = time.perf_counter()
    first = None
    with subprocess.Popen(
        [sys.executable, "-m", "layerscope", *words, "--quiet"], stdout=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            now = set((out / "blocks").glob("block_*"))
            if first is None and now - before:
                first = time.perf_counter() - begun
            if kill_after is not None and len(now) >= kill_after:
                process.kill()
            time.sleep(0.01)
    if process.returncode not in (0, -9):
        raise SystemExit(f"layerscope ended with {process.returncode}")
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    seconds = time.perf_counter() - begun
    return seconds, seconds if first is None else first, most


def soak(n: int) -> str:
    """One row of the table."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        texts, out = Path(folder) / "texts.txt", Path(folder) / "run"
        write_texts(texts, n)
        blocks = -(-n // 32)
        measure(texts, out, n, kill_after=max(1, blocks // 2))
        kept = sorted((out / "blocks").glob("block_*"))
        largest = max(sum(file.stat().st_size for file in block.iterdir()) for block in kept)
        seconds, first, most = measure(texts, out, n)
        again, _, _ = measure(texts, out, n)
        size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return (
        f"| {n:,} | {len(kept):,} | {first:.0f} s | {seconds:.0f} s | {again:.0f} s | {largest / 1e6:.2f} MB | "
        f"{size / 1e6:.0f} MB | {most:,.0f} MB |"
    )


def main() -> None:
    """Print a row for each number of texts."""
    print(
        "| texts | blocks kept by a kill | first new block | the other half | shown again | largest block | run | most memory |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for n in [int(word) for word in sys.argv[1:]] or TEXTS:
        print(soak(n), flush=True)


if __name__ == "__main__":
    main()
