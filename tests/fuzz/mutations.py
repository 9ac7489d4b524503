"""Damage done to files on purpose, and what must come of reading them."""

from __future__ import annotations

import copy
import json
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from layerscope.errors import LayerscopeError

Found = TypeVar("Found")
SECONDS = 20
"""What reading a small file may take before it counts as a hang."""
MEMORY = 8 << 30
PIECES = (
    *(
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\n",
        b"\r",
        b"\r\n",
        b'"',
        b",",
        b"\\ud800",
        b"[",
        b"{",
        b"[" * 5000,
    ),
    *(b"9" * 5000, b"1e999", b"-1", b"null", b"NaN", b"\xed\xa0\x80", b"\x00" * 64, b"\xff" * 8, b"PAR1", b"GGUF"),
)
ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        1,
        7,
        2**31,
        2**63,
        10**30,
        0.5,
        -1e300,
        float("inf"),
        float("nan"),
        "",
        "7",
        "x",
        "\ud800",
        "x" * 400,
    ),
    *([], [1], ["x"], [[]], {}, {"a": 1}, {"x": [None]}, "../..", "/dev/zero", "~nobody", "torch.float32", "a\nb"),
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with some bits flipped, a part cut, doubled or moved, or a piece put in."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        first, second = sorted(draw(st.tuples(*[st.integers(0, max(len(data), 1))] * 2)))
        kind = draw(st.sampled_from(("flip", "flip", "cut", "drop", "double", "piece", "piece", "end", "byte")))
        if kind == "flip" and first < len(data):
            data[first] ^= 1 << draw(st.integers(0, 7))
        elif kind == "byte" and first < len(data):
            data[first] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[first:]
        elif kind == "drop":
            del data[first:second]
        elif kind == "double":
            data[first:first] = data[first:second]
        elif kind == "piece":
            data[first:first] = draw(st.sampled_from(PIECES))
        elif kind == "end":
            data += draw(st.sampled_from(PIECES))
    return bytes(data)


@st.composite
def altered(draw: st.DrawFn, whole: bytes) -> bytes:
    """A JSON file in which some values are of another kind, are gone, or are beside others that were not there."""
    content = json.loads(whole)
    for _ in range(draw(st.integers(1, 2))):
        place = content
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            inner = place[key]
            if not (isinstance(inner, (dict, list)) and inner and draw(st.booleans())):
                if draw(st.integers(0, 9)):
                    place[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
                else:
                    del place[key]
                break
            place = inner
    return json.dumps(content).encode()


def fuzzed(cases: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """So many cases, the same ones each time."""
    return settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def full_and_slice(cases: int, few: int) -> Any:
    """The parameter `cases` of a test: all of them for `make faults`, a few for every run."""
    return pytest.mark.parametrize(
        "cases", [pytest.param(few, id="few"), pytest.param(cases, id="all", marks=pytest.mark.faults)]
    )


def attempt(read: Callable[[], Found]) -> Found | None:
    """What was read; None where it was refused in one line that can be printed. Anything else fails the test."""
    try:
        with _bounded():
            return read()
    except LayerscopeError as error:
        text = str(error)
        text.encode()
        assert text
        assert len(text) < 2000
        assert "\n" not in text
        return None


@contextmanager
def _bounded() -> Iterator[None]:
    """No more than some seconds and some memory."""

    def late(*_: object) -> None:
        pytest.fail(f"still reading after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:  # noqa: PTH123
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
