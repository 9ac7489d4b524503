"""What a reader has to know beside what was asked for, on stderr, so that it is seen with --quiet and in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable


def say_notes(notes: Iterable[str]) -> None:
    """Print each note on a line of its own."""
    for note in notes:
        sys.stderr.write(f"note: {note}\n")
