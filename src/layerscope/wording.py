"""Counts and lists in words."""

from __future__ import annotations

from collections.abc import Sequence


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


def some(words: Sequence[str], separator: str = ", ", most: int = 3) -> str:
    """The first words, and how many more there are: `a, b, c and 4 more`."""
    more = f" and {len(words) - most:,} more" if len(words) > most else ""
    return separator.join(words[:most]) + more
