"""From names to MTEB tasks: benchmarks, task classes of one's own, and the subsets and splits that count."""

from __future__ import annotations

import copy
import hashlib
import sys
import types
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from layerscope.errors import UserError, nearest, unknown
from layerscope.files.reading import read_bytes, read_toml
from layerscope.tasks.process import kept_random_state

BENCHMARKS: dict[str, list[str]] = read_toml("tasks", "benchmarks")
MODULE_PREFIX = "layerscope_own_tasks_"


def choose_tasks(
    names: Sequence[str], benchmark: str | None, subsets: Sequence[str], own: Mapping[str, Any] | None = None
) -> list[Any]:
    """The tasks asked for, each once, with the subsets and splits that are scored.

    Args:
        names: task names, or file.py:Class.
        benchmark: a name of BENCHMARKS, whose tasks come first.
        subsets: see `choose_subsets`.
        own: task objects of the user's own, by name; they are copied.

    Returns:
        MTEB tasks, their data not loaded.

    Raises:
        UserError: a task that does not exist (with the nearest names), is not a task on texts, or has none of the subsets.
    """
    given = own or {}
    wanted = dict.fromkeys([*(BENCHMARKS[benchmark] if benchmark else ()), *names])
    return [_prepared(copy.deepcopy(given[name]) if name in given else build_task(name), subsets) for name in wanted]


def build_task(name: str) -> Any:  # noqa: ANN401
    """A task by name, its data not loaded."""
    offline = BENCHMARKS["offline"]
    with kept_random_state():
        if ":" in name or name.endswith(".py"):
            return _own_task(name)
        if name in offline:
            from layerscope.tasks import wiki_tasks

            return getattr(wiki_tasks, name)()
        known = task_classes()
        if name in known:
            return known[name]()
    close = ", ".join(map(repr, nearest(name, [*known, *offline])))
    hint = f"did you mean {close}?" if close else "the names are those of mteb.get_tasks()"
    raise UserError(f"unknown task {name!r}: {hint} (or give file.py:Class for a task of your own)")


def _prepared(task: Any, subsets: Sequence[str]) -> Any:  # noqa: ANN401
    """The task with its subsets and splits; one with a test split is scored on that alone, as MTEB's English benchmark does."""
    facts = task.metadata
    if "/" in facts.name:
        raise UserError(f"task {facts.name!r} has a name that cannot be a file's: leave the slash out")
    if list(facts.modalities) != ["text"]:
        raise UserError(f"task {facts.name!r} needs {', '.join(facts.modalities)}: only tasks on text can be scored")
    if not is_aggregate(task):
        task.filter_languages(None, hf_subsets=choose_subsets(facts.hf_subsets_to_langscripts, subsets, facts.name))
        if "test" in facts.eval_splits:
            task.filter_eval_splits(["test"])
    return task


def is_aggregate(task: Any) -> bool:  # noqa: ANN401
    """Whether a task is made of others."""
    return bool(getattr(task, "is_aggregate", False))


def scored_subsets(task: Any) -> tuple[str, ...]:  # noqa: ANN401
    """The subsets that a whole result of the task has; an aggregate's result has one of its own."""
    return () if is_aggregate(task) else tuple(task.hf_subsets or ())


def choose_subsets(available: Mapping[str, Collection[str]], wanted: Sequence[str], task: str) -> list[str]:
    """Subsets of a task.

    `english` takes the subset `en` (or `eng`, `en-en`) where there is one, else every subset that is in English only,
    else all; `all` takes all; anything else is the name of a subset.

    Raises:
        UserError: the task has none of the subsets named.
    """
    if len(available) == 1 or "all" in wanted:
        return list(available)
    chosen: list[str] = []
    if "english" in wanted:
        plain = [name for name in ("en", "eng", "en-en") if name in available]
        english = [name for name, langs in available.items() if all(lang.startswith("eng") for lang in langs)]
        chosen += plain[:1] or english or list(available)
    chosen += [name for name in wanted if name in available]
    if not chosen:
        close = [hit for name in wanted for hit in nearest(name, available)]
        hint = f"did you mean {', '.join(close[:3])}" if close else f"it has {', '.join(sorted(available)[:12])}"
        raise UserError(f"task {task!r} has no subset {', '.join(wanted)}: {hint}")
    return list(dict.fromkeys(chosen))


def task_classes() -> dict[str, Any]:
    """MTEB's own task classes by name."""
    from mteb.get_tasks import TASK_LIST

    return {cls.metadata.name: cls for cls in TASK_LIST}


def load_own_module(module: str, file: str) -> None:
    """Run the file that holds a user's task classes, once a process and content.

    Raises:
        UserError: the file cannot be read or fails, or its content is not the one that the module's name tells.
    """
    if module in sys.modules:
        return
    content = read_bytes(Path(file))
    if module != _module_name(file, content):
        raise UserError(f"{file} changed meanwhile: run the same command again")
    sys.modules[module] = loaded = types.ModuleType(module)
    loaded.__file__ = file
    try:
        # Not by the import system: what it compiles is cached by the file's size and clock, not by its content.
        exec(compile(content, file, "exec"), loaded.__dict__)
    except Exception as error:
        del sys.modules[module]
        raise UserError(f"{file} failed when it was run ({type(error).__name__}: {error}): correct the file") from error


def own_code(task: Any) -> str:  # noqa: ANN401
    """The start of the hash of the file that a task class of the user's own was read from; empty for other tasks."""
    module = type(task).__module__
    return f"sha256:{module.rpartition('_')[2]}" if module.startswith(MODULE_PREFIX) else ""


def _module_name(path: str, content: bytes) -> str:
    place, code = (hashlib.sha256(part).hexdigest()[:12] for part in (path.encode(), content))
    return f"{MODULE_PREFIX}{place}_{code}"


def _own_task(name: str) -> Any:  # noqa: ANN401
    import mteb

    file, wanted = (name, "") if ":" not in name else name.rsplit(":", 1)
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise UserError(f"{file} does not exist: give file.py:Class for a task class of your own")
    module = _module_name(str(path), read_bytes(path))
    load_own_module(module, str(path))
    classes = {
        key: value
        for key, value in vars(sys.modules[module]).items()
        if isinstance(value, type) and issubclass(value, mteb.AbsTask) and value.__module__ == module
    }
    if not classes:
        raise UserError(
            f"{file} holds no task class: expected a subclass of one of MTEB's, such as AbsTaskClassification"
        )
    if not wanted and len(classes) > 1:
        raise UserError(f"{file} holds several tasks ({', '.join(classes)}): say which as {file}:{next(iter(classes))}")
    if wanted and wanted not in classes:
        raise unknown(f"task class in {file}", wanted, classes)
    return classes[wanted or next(iter(classes))]()
