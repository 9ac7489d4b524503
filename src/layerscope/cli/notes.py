"""What a reader has to know beside what was asked for, on stderr, so that it is seen with --quiet and in a pipe."""

from __future__ import annotations

from collections.abc import Iterable

from layerscope.cli.show import console, say


def say_notes(notes: Iterable[str]) -> None:
    """Print each note on a line of its own, or more on a narrow screen."""
    screen = console(stderr=True)
    for note in notes:
        say(screen, f"note: {note}")
