"""The tries: a fault, what came of it, and what the same command gave afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.children import Limits, Outcome, do, finish, start
from tests.faults.programs import PROGRAMS, STORED, Numbers, same


@dataclass
class Tally:
    """How tries of one fault on one kind of run ended. `wrong` should be empty: each of its lines is a defect."""

    fault: str
    kind: str
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def tries(self) -> int:
        """How many tries there were."""
        return self.ends.total()


@dataclass
class Bench:
    """Where tries are made: the inputs, and what each program says when nothing goes wrong."""

    inputs: Path
    root: Path
    _whole: dict[tuple[str, str], tuple[Path, Numbers, float]] = field(default_factory=dict)

    def whole(self, kind: str, *, stored: bool = False) -> tuple[Path, Numbers, float]:
        """A finished run, what it says, and the seconds it took."""
        key = (kind, "stored" if stored else "run")
        if key not in self._whole:
            place = self.new(f"whole-{kind}-{key[1]}")
            program = (STORED if stored else PROGRAMS)[kind]
            begun = time.perf_counter()
            program.run(self.inputs, place)
            seconds = time.perf_counter() - begun
            copy = self.copy(place)
            self._whole[key] = (place, program.read(self.inputs, copy), seconds)
            shutil.rmtree(copy)
        return self._whole[key]

    def new(self, name: str) -> Path:
        """An empty folder of its own."""
        place = self.root / f"{name.replace(' ', '-')}-{time.monotonic_ns()}" / "place"
        place.mkdir(parents=True)
        return place

    def copy(self, place: Path) -> Path:
        """A copy of a folder, beside which nothing lies."""
        other = self.new("copy")
        shutil.copytree(place, other, dirs_exist_ok=True, symlinks=True)
        return other


def kills(bench: Bench, kind: str, n: int) -> Tally:
    """kill -9 at random moments; then the same command, whose result is that of a run that nobody disturbed."""
    tally = Tally("kill -9", kind)
    draw = random.Random(f"kills {kind}")
    _, whole, seconds = bench.whole(kind)
    for _ in range(n):
        place = bench.new("kill")
        process, answer = start("run", kind, (bench.inputs, place))
        process.join(draw.uniform(0.05, 1.1 * seconds))
        process.kill()
        process.join()
        tally.ends["through before it"] += answer.exists()
        written = any(path.is_file() and path.name != ".lock" for path in place.rglob("*"))
        tally.ends["killed with files written" if written else "killed before its first file"] += not answer.exists()
        answer.unlink(missing_ok=True)
        _afterwards(tally, bench, (kind, place), whole)
    return tally


def full_disk(bench: Bench, kind: str, n: int) -> Tally:
    """A disk that is full at `n` sizes; then the same command with room enough.

    A small tmpfs where mounts are allowed, else files that may not grow.
    """
    tally = Tally("disk full", kind)
    finished, whole, _ = bench.whole(kind)
    size = sum(path.stat().st_size for path in finished.rglob("*") if path.is_file())
    largest = max(path.stat().st_size for path in finished.rglob("*") if path.is_file())
    for number in range(1, n + 1):
        place = bench.new("full")
        mounted = _mount(place, max(8192, int(size * number / n)))
        limits = Limits() if mounted else Limits(file_size=max(1, int(largest * number / (n + 1))))
        outcome = do("run", kind, (bench.inputs, place), limits)
        tally.ends[outcome.how] += 1
        if outcome.how in ("crashed", "killed"):
            tally.wrong.append(f"{number} of {n}: {outcome.message}")
        elif outcome.how == "named" and "disk is full" not in outcome.message:
            tally.wrong.append(f"{number} of {n}: the reason is not the disk: {outcome.message}")
        if mounted:
            subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
        _afterwards(tally, bench, (kind, place), whole)
        if mounted:
            subprocess.run(["umount", str(place)], check=True)
    return tally


def flips(bench: Bench, kind: str, n: int) -> Tally:
    """One bit flipped, or the end cut off, at a random place of a random file that a run or cache keeps.

    What is read is then what was written, or an error that names it. Silence about another number is the one wrong end.
    """
    tally = Tally("bit flipped or file cut", kind)
    draw = random.Random(f"flips {kind}")
    finished, whole, _ = bench.whole(kind, stored=True)
    for _ in range(n):
        place = bench.copy(finished)
        file = draw.choice([path for path in STORED[kind].kept(place) if path.stat().st_size])
        what = damage(file, draw)
        _judge(tally, _read(bench, kind, place), whole, f"{file.relative_to(place)}, {what}")
        shutil.rmtree(place.parent)
    return tally


def damaged_blocks(bench: Bench, kind: str, n: int) -> Tally:
    """The same for the blocks of a run that was killed: the same command gives what an undisturbed run gives."""
    tally = Tally("block damaged", kind)
    draw = random.Random(f"blocks {kind}")
    _, whole, _ = bench.whole(kind)
    half = bench.new("half")
    while True:
        process, answer = start("run", kind, (bench.inputs, half))
        while process.is_alive() and len(list((half / "run" / "blocks").glob("block_0*"))) < 3:
            time.sleep(0.001)
        process.kill()
        process.join()
        if list((half / "run" / "blocks").glob("block_0*")):
            break
        answer.unlink(missing_ok=True)
        shutil.rmtree(half / "run", ignore_errors=True)
    for _ in range(n):
        place = bench.copy(half)
        blocks = sorted((place / "run" / "blocks").glob("block_0*"))
        if len(blocks) > 1 and draw.random() < 0.1:
            one, other = draw.sample(blocks, 2)
            one.rename(place / "aside")
            other.rename(one)
            (place / "aside").rename(other)
        else:
            damage(draw.choice([file for block in blocks for file in block.iterdir() if file.stat().st_size]), draw)
        tally.ends["damaged"] += 1
        _afterwards(tally, bench, (kind, place), whole)
    return tally


def two_writers(bench: Bench, kind: str, n: int) -> Tally:
    """The same command twice at once: one works, the other works after it or is told who holds the folder."""
    tally = Tally("two writers", kind)
    _, whole, _ = bench.whole(kind)
    for _ in range(n):
        place = bench.new("two")
        both = [start("run", kind, (bench.inputs, place)) for _ in range(2)]
        outcomes = [finish(*one) for one in both]
        for outcome in outcomes:
            tally.ends[outcome.how] += 1
            refused = outcome.how == "named" and any(
                words in outcome.message for words in ("written by another", "is not empty")
            )
            if outcome.how != "done" and not refused:
                tally.wrong.append(f"{outcome.how}: {outcome.message}")
        if not any(outcome.how == "done" for outcome in outcomes):
            tally.wrong.append("neither went through")
        _afterwards(tally, bench, (kind, place), whole)
    return tally


def read_only(bench: Bench, kind: str, n: int) -> Tally:
    """A folder that may not be written, new or with a finished run: a named error, or what is there is read."""
    tally = Tally("read-only", kind)
    finished, whole, _ = bench.whole(kind)
    for number in range(n):
        place = bench.copy(finished) if number % 2 else bench.new("read-only")
        mounted = _mount_read_only(place)
        if not mounted and os.geteuid() == 0 and not _is_for_all(Path(os.__file__)):
            # Python itself lies where only its owner may read.
            tally.ends["not possible here"] += 1
            continue
        if not mounted:
            _for_all(place, writable=False)
        outcome = do("run", kind, (bench.inputs, place), Limits(reader=not mounted))
        tally.ends[outcome.how] += 1
        if outcome.how in ("crashed", "killed"):
            tally.wrong.append(outcome.message)
        elif outcome.how == "named" and not any(w in outcome.message for w in ("ermission", "ead-only")):
            tally.wrong.append(f"the reason is not the permission: {outcome.message}")
        if mounted:
            subprocess.run(["umount", str(place)], check=True)
        else:
            _for_all(place, writable=True)
        _afterwards(tally, bench, (kind, place), whole)
    return tally


def clock_back(bench: Bench, kind: str, n: int) -> Tally:
    """A run that was killed, and goes on with a clock that is a year behind."""
    tally = Tally("clock set back", kind)
    draw = random.Random(f"clock {kind}")
    _, whole, seconds = bench.whole(kind)
    for _ in range(n):
        place = bench.new("clock")
        process, answer = start("run", kind, (bench.inputs, place))
        process.join(draw.uniform(0.3, 1.0) * seconds)
        process.kill()
        process.join()
        answer.unlink(missing_ok=True)
        outcome = do("run", kind, (bench.inputs, place), Limits(earlier=365 * 86400.0))
        tally.ends[outcome.how] += 1
        if outcome.how != "done":
            tally.wrong.append(f"{outcome.how}: {outcome.message}")
        _afterwards(tally, bench, (kind, place), whole)
    return tally


def damage(path: Path, draw: random.Random) -> str:
    """Flip one bit of a file, or cut its end off: in words, what was done."""
    content = path.read_bytes()
    place = draw.randrange(len(content))
    if draw.random() < 0.2:
        path.write_bytes(content[:place])
        return f"cut to {place} of {len(content)} bytes"
    bit = draw.randrange(8)
    path.write_bytes(content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :])
    return f"bit {bit} of byte {place} of {len(content)}"


def _read(bench: Bench, kind: str, place: Path) -> Outcome:
    return do("read", kind, (bench.inputs, place), stored=True)


def _judge(tally: Tally, outcome: Outcome, whole: Numbers, what: str) -> None:
    if outcome.how == "done":
        differing = same(outcome.numbers, whole)
        tally.ends["silent and wrong" if differing else "right"] += 1
        if differing:
            tally.wrong.append(f"{what}: other {', '.join(differing)}")
    else:
        tally.ends[outcome.how] += 1
        if outcome.how != "named":
            tally.wrong.append(f"{what}: {outcome.message}")


def _afterwards(tally: Tally, bench: Bench, run: tuple[str, Path], whole: Numbers) -> None:
    kind, place = run
    for work in ("run", "read"):
        outcome = do(work, kind, (bench.inputs, place))
        if outcome.how != "done":
            tally.wrong.append(f"afterwards, {work}: {outcome.how}: {outcome.message}")
            break
    else:
        differing = same(outcome.numbers, whole)
        if differing:
            tally.wrong.append(f"afterwards: other {', '.join(differing)}")
    left = [path for path in place.rglob("*") if path.name.endswith(".tmp") and _is_old(path)]
    if left:
        tally.wrong.append(f"left behind: {', '.join(str(path.relative_to(place)) for path in left)}")
    with contextlib.suppress(OSError):
        shutil.rmtree(place.parent)


def _is_old(path: Path) -> bool:
    return time.time() - path.lstat().st_mtime > 3600


def _mount(place: Path, size: int) -> bool:
    if os.geteuid():
        return False
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def _mount_read_only(place: Path) -> bool:
    if os.geteuid() or subprocess.run(["mount", "--bind", place, place], capture_output=True, check=False).returncode:
        return False
    subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
    return True


def _is_for_all(path: Path) -> bool:
    return all(stat.S_IMODE(one.stat().st_mode) & 0o005 for one in (path, *path.parents))


def _for_all(place: Path, *, writable: bool) -> None:
    """Let everybody read a folder, and its owner write it or nobody."""
    for path in (place, *place.rglob("*")):
        path.chmod((0o755 if path.is_dir() else 0o644) if writable else (0o555 if path.is_dir() else 0o444))
    for parent in place.parents:
        with contextlib.suppress(PermissionError):
            parent.chmod(stat.S_IMODE(parent.stat().st_mode) | 0o055)


FAULTS: dict[str, Callable[[Bench, str, int], Tally]] = {
    "kill": kills,
    "full-disk": full_disk,
    "two-writers": two_writers,
    "read-only": read_only,
    "clock": clock_back,
    "flip": flips,
    "block": damaged_blocks,
}


@dataclass(frozen=True)
class Plan:
    """How often each fault is tried on each kind."""

    fault: str
    kind: str
    n: int


def plans(share: float) -> Iterator[Plan]:
    """What is tried; `share` 1 is all of it: 20 kills and 20 full disks a kind, 1,000 damaged files."""
    numbers = {"kill": 20, "full-disk": 20, "two-writers": 4, "read-only": 4, "clock": 4}
    damaged = {
        "measure": 200, "tasks": 120, "mmlu": 150, "study": 120, "zoo": 60, "pick": 90, "results and embeddings": 60,
        "GGUF cache": 60,
    }  # fmt: skip
    for fault, n in numbers.items():
        for kind in PROGRAMS:
            yield Plan(fault, kind, max(2, round(n * share)))
    for kind, n in damaged.items():
        yield Plan("flip", kind, max(4, round(n * share)))
    for kind in ("measure", "mmlu"):
        yield Plan("block", kind, max(4, round(70 * share)))


def tried(bench: Bench, plan: Plan) -> Tally:
    """The tally of a plan."""
    return FAULTS[plan.fault](bench, plan.kind, plan.n)
