"""Counts in words, and values where a reader or a program would take them for more than values."""

from __future__ import annotations

import re

# Backslashes make any of these plain in CommonMark; none of the others begins markup inside a line.
_MARKUP = re.compile(r"[\\`*_\[\]<>|~$&]")


def in_markdown(value: object) -> str:
    """A value as plain text on one line of Markdown, also in a cell: nothing in it is markup, a link or HTML."""
    line = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return _MARKUP.sub(r"\\\g<0>", " ".join(line.split()))


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 task`, `2 tasks`, `1,204 tasks`.

    Args:
        number: how many.
        one: the word for one of them.
        many: the word for several; `one` with an s by default.

    Returns:
        The number and the word that goes with it.
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
