"""What a run's folder holds, and which verb made it: what is in the way is named, and what another verb made stays."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from layerscope.files.locks import LOCK

Verb = Literal["measure", "tasks", "mmlu", "pick", "relate", "describe", "study", "zoo"]

MADE: dict[Verb, tuple[str, ...]] = {
    "measure": ("run.json", "layers.parquet", "prompts.parquet", "texts.parquet", "pooled", "blocks"),
    "tasks": ("tasks.json", "scores.parquet", "tasks"),
    "mmlu": ("mmlu.json", "mmlu", "blocks"),
    "pick": ("pick.json",),
    "relate": ("relations.parquet",),
    "describe": ("notes.json", "descriptions.parquet"),
    "study": ("study.json", "findings.json", "findings.md"),
    "zoo": ("zoo.json",),
}
"""The files and folders that a verb writes into a run's folder, the first its record; `describe` is a job of a study."""
WHAT: dict[str, str] = {
    "measure": "a measurement",
    "tasks": "scores of tasks",
    "mmlu": "answers to questions",
    "study": "a study",
    "zoo": "a trained model",
    "describe": "descriptions of prompts",
}
"""What a verb makes, in words."""


def contents(folder: Path) -> list[str]:
    """The names in a folder, sorted, without the lock and what a kill left half-written."""
    return sorted(child.name for child in folder.iterdir() if child.name != LOCK and not child.name.endswith(".tmp"))


def in_the_way(folder: Path, beside: tuple[Verb, ...]) -> list[str]:
    """The names in a folder that a new run cannot stand beside.

    What another verb than those in `beside` made; and what no verb made, where no verb's record says that this is a run.
    """
    made = {name: verb for verb, names in MADE.items() for name in names if verb not in beside}
    known = {name for names in MADE.values() for name in names}
    return [name for name in contents(folder) if name in made or (name not in known and not held(folder))]


def way_out(folder: Path, verb: Verb) -> str:
    """What to do where the files of a verb are in the way of the same verb; what it did not make is never deleted."""
    if verb == "study":
        return f"choose another --out or delete the folder {folder} (runs are kept beside it)"
    there = contents(folder)
    mine = [name for name in MADE[verb] if name in there]
    others = [name for name in there if name not in mine]
    if not others:
        return "choose another --out or delete the folder"
    theirs = {f" of `layerscope {other}`": names for other, names in MADE.items() if other != verb}
    theirs[""] = tuple(name for name in others if not any(name in names for names in theirs.values()))
    groups = {of: ", ".join(name for name in others if name in names) for of, names in theirs.items()}
    staying = "; ".join(f"{names}{of}" for of, names in groups.items() if names)
    return f"choose another --out, or delete {', '.join(mine)} there to start again (what can stay: {staying})"


def again(folder: Path, verb: Verb) -> str:
    """What to do where a file that a verb made is damaged, for whoever reads it: nothing else has to be lost."""
    if verb in ("study", "zoo"):
        command = "zoo train" if verb == "zoo" else verb
        return f"delete the folder {folder} and run the same `layerscope {command}` command again"
    mine = ", ".join(name for name in MADE[verb] if name in contents(folder))
    return f"run the same `layerscope {verb}` command with another --out, or after deleting {mine} in {folder}"


def held(folder: Path) -> str:
    """What a folder holds, in words, such as "scores of tasks"; empty where no verb wrote into it."""
    return " and ".join(WHAT[verb] for verb in ("measure", "tasks", "mmlu") if (folder / MADE[verb][0]).exists())
