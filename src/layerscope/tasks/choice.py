"""From names to MTEB tasks: benchmarks, task classes of one's own, and the subsets and splits that count."""

from __future__ import annotations

import hashlib
import sys
import types
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from layerscope.errors import UserError, nearest, unknown
from layerscope.files.reading import read_bytes
from layerscope.tasks.catalogue import BENCHMARKS, OFFLINE
from layerscope.tasks.random_state import kept_random_state

MODULE_PREFIX = "layerscope_own_tasks_"


def choose_tasks(names: Sequence[str], benchmark: str | None, subsets: Sequence[str]) -> list[Any]:
    """The tasks asked for, each once, with the subsets and splits that are scored.

    Args:
        names: task names, or file.py:Class.
        benchmark: a name of BENCHMARKS, whose tasks come first.
        subsets: see `choose_subsets`.

    Returns:
        MTEB tasks, their data not loaded.

    Raises:
        UserError: a task that does not exist (with the nearest names) or is not a task on texts.
    """
    wanted = dict.fromkeys([*(BENCHMARKS[benchmark] if benchmark else ()), *names])
    return [prepare_task(build_task(name), subsets) for name in wanted]


def build_task(name: str) -> Any:  # noqa: ANN401
    """A task by name, its data not loaded."""
    with kept_random_state():
        if ":" in name or name.endswith(".py"):
            return _own_task(name)
        if name in OFFLINE:
            from layerscope.tasks import wiki_tasks

            return getattr(wiki_tasks, name)()
        known = task_classes()
        if name not in known:
            raise _unknown_task(name, known)
        return known[name]()


def prepare_task(task: Any, subsets: Sequence[str]) -> Any:  # noqa: ANN401
    """Check that a task is on texts, and choose its subsets and splits.

    A task with a test split is scored on that alone, as MTEB's English benchmark does.

    Raises:
        UserError: the task needs more than texts, or has none of the subsets.
    """
    if list(task.metadata.modalities) != ["text"]:
        raise UserError(
            f"task {task.metadata.name!r} needs {', '.join(task.metadata.modalities)}: only tasks on text can be scored"
        )
    if getattr(task, "is_aggregate", False):
        return task
    chosen = choose_subsets(task.metadata.hf_subsets_to_langscripts, subsets, task.metadata.name)
    task.filter_languages(None, hf_subsets=chosen)
    if "test" in task.metadata.eval_splits:
        task.filter_eval_splits(["test"])
    return task


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
    path = Path(file)
    content = read_bytes(path)
    if module != _module_name(path, content):
        raise UserError(f"{file} changed meanwhile: run the same command again")
    loaded = types.ModuleType(module)
    loaded.__file__ = file
    sys.modules[module] = loaded
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


def _module_name(path: Path, content: bytes) -> str:
    place, code = (hashlib.sha256(part).hexdigest()[:12] for part in (str(path).encode(), content))
    return f"{MODULE_PREFIX}{place}_{code}"


def _own_task(name: str) -> Any:  # noqa: ANN401
    import mteb

    file, _, wanted = name.rpartition(":")
    if not file:
        file, wanted = wanted, ""
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise UserError(f"{file} does not exist: give file.py:Class for a task class of your own")
    module = _module_name(path, read_bytes(path))
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
    if not wanted:
        if len(classes) > 1:
            raise UserError(
                f"{file} holds several tasks ({', '.join(classes)}): say which as {file}:{next(iter(classes))}"
            )
        wanted = next(iter(classes))
    if wanted not in classes:
        raise unknown(f"task class in {file}", wanted, classes)
    return classes[wanted]()


def _unknown_task(name: str, known: Mapping[str, Any]) -> UserError:
    close = nearest(name, [*known, *OFFLINE])
    hint = f"did you mean {', '.join(repr(c) for c in close)}?" if close else "the names are those of mteb.get_tasks()"
    return UserError(f"unknown task {name!r}: {hint} (or give file.py:Class for a task of your own)")
