"""docs/families.md: what became of every model type, written from outcomes and read back by the test."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "families.md"

Outcome = Mapping[str, Any]
Key = tuple[str, str | None]
"""A model type, and the stack where it has two."""


class Place(NamedTuple):
    """Where a type stands on the page: the section, and the reason in it."""

    section: str
    reason: str


RIGHT = "Right, and so is the export"
RIGHT_ALONE = "Right, but not exported"
REFUSED = "Refused"
NOT_MADE = "Not tried"
NOT_TEXT = "No text models"
PARTS = "Without a class of their own"
_WORDS = {
    RIGHT: "States of every layer, measured vectors and entropies, encoded vectors, and exports at the layer before the "
    "last (normed and raw) agree with plain transformers.",
    RIGHT_ALONE: "The same, but `layerscope export` refuses, or refuses one of its readouts.",
    REFUSED: "No number is given; the reason is.",
    NOT_MADE: "No tiny model could be made, so nothing is known.",
    NOT_TEXT: "They take no token ids, and are refused by their config alone.",
    PARTS: "Parts and wrappers for which transformers has no model without a head (`AutoModel` does not know them); "
    "refused by their config alone. The whole model is often among those above.",
}
_BROKEN = {"wrong", "crashed"}


def place_of(outcome: Outcome) -> Place:
    """Where an outcome belongs. What is wrong or crashed belongs nowhere: its section is the word itself."""
    result, reason, export = outcome["result"], outcome["reason"], outcome["export"]
    if result in _BROKEN:
        return Place(result, f"{reason} {export}".strip())
    if result == "right":
        return Place(RIGHT, "") if export == "right" else Place(RIGHT_ALONE, _short(export))
    if result == "not text":
        parts = "has no model without a head" in reason
        return Place(PARTS, "") if parts else Place(NOT_TEXT, reason.rpartition("it reads ")[2])
    return Place({"refused": REFUSED, "not made": NOT_MADE}[result], _short(reason))


def key_of(outcome: Outcome) -> Key:
    """What an outcome is about."""
    return outcome["model_type"], outcome["part"]


def _short(reason: str) -> str:
    """A reason without what differs from type to type or from machine to machine."""
    reason = re.sub(r" ?\((relative error|at most)[^)]*\)", "", reason)
    reason = re.sub(r"^\w+ is not supported: ", "", reason)
    reason = re.sub(
        r"\w+ cannot be (exported|written down as a model that ends with the \w+ states of layer \d+): ", "", reason
    )
    reason = re.sub(
        r" ?(Export|export|use|please report) (the readout|another|a higher|layerscope's|part=|the model's)[^;]*",
        "",
        reason,
    )
    reason = re.sub(
        r"the decoder of (?=sentence)|, so it was not written|\d+ blocks?, last_hidden_state: |\.(?=;|$)", "", reason
    )
    reason = re.sub(r", so (no number per layer|batched numbers) would be (right|wrong)", "", reason)
    reason = re.sub(r"^normed refused: (.*); raw refused: \1$", r"\1", reason)
    return " ".join(reason.split()).strip(" ,:;").replace("|", "/").replace("`", "'")


def write_page(outcomes: Iterable[Outcome], version: str) -> str:
    """The page, as Markdown."""
    groups: dict[str, dict[str, list[Key]]] = {section: {} for section in _WORDS}
    broken: list[str] = []
    for outcome in outcomes:
        place = place_of(outcome)
        if place.section in _BROKEN:
            broken.append(f"{_name(key_of(outcome))}: {place.section}: {place.reason}")
        else:
            groups[place.section].setdefault(place.reason, []).append(key_of(outcome))
    if broken:
        raise ValueError("\n".join(["these are defects, not rows of a table:", *broken]))
    counts = {section: sum(map(len, group.values())) for section, group in groups.items()}
    return "\n".join([_opening(counts, version), *(line for name in _WORDS for line in _section(name, groups[name]))])


def _opening(counts: Mapping[str, int], version: str) -> str:
    rows = "\n".join(f"| {name} | {count} |" for name, count in counts.items())
    return f"""# Which model families

Every model type that transformers {version} knows, as a tiny model with random weights, through load, measure, encode and
export. Where a number comes out, it was compared with plain transformers: float32, one prompt at a time, prompts of 1 to
60 tokens, padded in one batch here and alone there; relative error at most 1e-4.

This page is written by

    make families

and `make sweep` fails where a type comes out otherwise than it stands here.

| | types |
|---|---|
{rows}

An encoder-decoder counts twice, once for each stack. That a type stands under "right" says that layers are found and read
rightly. It says nothing about checkpoints that hold code of their own.
"""


def _section(name: str, group: Mapping[str, Sequence[Key]]) -> list[str]:
    lines = [f"## {name}", "", _WORDS[name], ""]
    if set(group) <= {""}:
        return [*lines, _names(group.get("", ())), ""]
    head = "it reads" if name == NOT_TEXT else "why"
    rows = [f"| {reason} | {_names(keys)} |" for reason, keys in sorted(group.items())]
    return [*lines, f"| {head} | model types |", "|---|---|", *rows, ""]


def _names(keys: Iterable[Key]) -> str:
    return ", ".join(_name(key) for key in sorted(keys, key=lambda key: (key[0], key[1] or "")))


def _name(key: Key) -> str:
    return f"`{key[0]}`" + (f" ({key[1]})" if key[1] else "")


def read_page(text: str) -> dict[Key, Place]:
    """Where each type stands on the page."""
    found: dict[Key, Place] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif section and line.startswith(("`", "| ")) and "model types |" not in line:
            reason, _, names = line.strip("| ").rpartition(" | ") if line.startswith("| ") else ("", "", line)
            for model_type, part in re.findall(r"`([^`]+)`(?: \((encoder|decoder)\))?", names):
                found[model_type, part or None] = Place(section, reason)
    return found
