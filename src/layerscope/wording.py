"""Counts in words, and values of unknown origin as text: on a screen, in Markdown, in CSV."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

# Control characters, what turns or hides the text beside it, lone surrogates, and the line breaks that Python knows.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Letters of Persian, of Indic scripts and of emoji are joined and kept apart by these two.
_JOINERS = "\u200c\u200d"
# What Markdown or HTML would take for more than text, where they would: `a_b`, `p < .05` and `[1, 2]` are text.
_MARKUP = re.compile(
    r"[\\`*|~$]|(?<![^\W_])_|_(?![^\W_])|<(?=[A-Za-z/!?]|$)|&(?=[A-Za-z0-9#]|$)|\](?=[(\[:]|$)"
    r"|^(?:[#+=>-]|\d+[.)](?=\s|$))"
)
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 task`, `2 tasks`, `1,204 tasks`; the word for several is `many`, by default `one` with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def some(words: Sequence[str], separator: str = ", ", most: int = 3) -> str:
    """The first words, and how many more there are: `a, b, c and 4 more`."""
    more = f" and {len(words) - most:,} more" if len(words) > most else ""
    return separator.join(words[:most]) + more


def said_once(said: Iterable[tuple[str, str]], of_all: int) -> list[str]:
    """Each sentence once, with whom it is of in front where that is not all of them.

    Args:
        said: whom a sentence is of, and the sentence.
        of_all: how often a sentence is there that is of all.
    """
    names: dict[str, list[str]] = {}
    for name, sentence in said:
        names.setdefault(sentence, []).append(name)
    return [
        sentence if len(having) == of_all else f"{', '.join(dict.fromkeys(having))}: {sentence}"
        for sentence, having in names.items()
    ]


def on_screen(value: object) -> str:
    r"""A value as one line of a terminal: what would move the cursor, change colours or turn the text round is written out.

    An escape character stands as `\x1b`, a line break as `\n` and a bidi override as `\u202e`.
    """
    text = str(value)
    return text if text.isprintable() else "".join(map(_seen, text))


def lines_on_screen(text: str) -> str:
    """`on_screen` for a text whose line breaks are meant."""
    return text if text.isprintable() else "\n".join(map(on_screen, text.split("\n")))


def in_markdown(value: object) -> str:
    """A value as text within a line of Markdown: it shows just what it is, and is no link, tag, cell or emphasis.

    A viewer may still make a link of a bare address, which leads where it says.
    """
    text = on_screen(" ".join(str(value).split()))
    return _MARKUP.sub(lambda found: _ENTITIES.get(found[0]) or f"{found[0][:-1]}\\{found[0][-1]}", text)


def in_csv(value: str) -> str:
    """A value as a cell that a spreadsheet shows and does not compute: `=1+1` is `'=1+1`; numbers stay numbers."""
    return f"'{value}" if _FORMULA.match(value) and not _NUMBER.fullmatch(value) else value


def _seen(sign: str) -> str:
    hidden = unicodedata.category(sign) in _HIDDEN and sign not in _JOINERS
    return sign.encode("unicode_escape").decode("ascii") if hidden else sign
