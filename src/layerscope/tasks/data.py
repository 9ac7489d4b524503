"""Where a task's data comes from: a local folder that stands in for the hub, the hub, or its cache."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from huggingface_hub import constants

from layerscope.errors import LayerscopeError, RunFailedError, UserError
from layerscope.files.reading import read_bytes, sum_of
from layerscope.files.writing import cannot_write, make_folder, write_text
from layerscope.inputs.checkpoints import hub_reachable
from layerscope.inputs.hub import DATA_DIR, stand_in
from layerscope.tasks.choice import is_aggregate
from layerscope.tasks.evaluation import reason_of
from layerscope.tasks.process import RandomState, kept_random_state, quiet_mteb, setting

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_CACHES = ("HF_DATASETS_CACHE", "DOWNLOADED_DATASETS_PATH", "EXTRACTED_DATASETS_PATH")
LOCAL = "local-"
"""How the revision of data from local files begins; the hash of their content follows."""


def load_task_data(task: Any, data_dir: str | None, home: Path) -> RandomState:  # noqa: ANN401
    """Load a task's data, from its stand-in where there is one.

    Args:
        task: an MTEB task; its data is loaded afterwards.
        data_dir: see `layerscope.inputs.hub.stand_in`.
        home: a folder for what the `datasets` library makes of local files, which the data is read from as long as it is
            used. It is a new one for each run: that library's own cache goes by a file's path and its time of change, which
            `cp -p`, rsync and tar keep, and nothing in it says whether it is as it was written.

    Returns:
        The global generators as they are after a plain build and load of the task; the process's own are kept.

    Raises:
        UserError: the data cannot be had, with the folder that would make it work, or is not what the task expects.
    """
    with kept_random_state(), quiet_mteb():
        if is_aggregate(task):
            # The parts belong to the class: loading them there would not go with a packed task.
            parts = [copy.copy(part) for part in task.metadata.tasks]
            task.metadata = task.metadata.model_copy(update={"tasks": parts})
        random.seed(task.seed)
        np.random.seed(task.seed)  # noqa: NPY002
        torch.manual_seed(task.seed)
        for part in _parts(task):
            _load_part(part, data_dir, home)
        return RandomState.now()


def data_revision(task: Any, data_dir: str | None) -> str:  # noqa: ANN401
    """The revision that a task whose data is not loaded would have after `load_task_data`; nothing is loaded.

    Raises:
        UserError: its stand-in cannot be read.
    """

    def revision(part: Any) -> str:  # noqa: ANN401
        if hasattr(part, "data_revision"):
            return str(part.data_revision())
        _, folder = _source(part, data_dir)
        return str(part.metadata.revision) if folder is None else local_revision(folder)

    return _joined_revision(task, [revision(part) for part in _parts(task)])


def loaded_revision(task: Any) -> str:  # noqa: ANN401
    """The revision of a task whose data is loaded."""
    return _joined_revision(task, [str(part.metadata.revision) for part in _parts(task)])


def _joined_revision(task: Any, parts: Sequence[str]) -> str:  # noqa: ANN401
    if not is_aggregate(task):
        return parts[0]
    # An aggregate's own revision is a placeholder that says nothing about its parts' data.
    if not any(part.startswith(LOCAL) for part in parts):
        return str(task.metadata.revision)
    return f"{LOCAL}{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:12]}"


def _parts(task: Any) -> list[Any]:  # noqa: ANN401
    """The tasks an aggregate is made of; the task itself otherwise."""
    return list(task.metadata.tasks) if is_aggregate(task) else [task]


def sample_counts(task: Any) -> dict[str, int]:  # noqa: ANN401
    """Samples of a loaded task by "split/subset": rows, or queries of a retrieval task."""
    counts: dict[str, int] = {}
    for part in _parts(task):
        for subset in part.hf_subsets or ["default"]:
            data = part.dataset or {}
            splits = data.get(subset, data if subset == "default" else {})
            for split in part.eval_splits:
                rows = splits.get(split) if hasattr(splits, "get") else None
                if isinstance(rows, dict):
                    rows = rows.get("queries")
                if rows is not None and hasattr(rows, "__len__"):
                    counts[f"{split}/{subset}"] = counts.get(f"{split}/{subset}", 0) + len(rows)
    return counts


def _load_part(task: Any, data_dir: str | None, home: Path) -> None:  # noqa: ANN401
    here, (on_hub, folder) = f"task {task.metadata.name}", _source(task, data_dir)
    offline = bool(constants.HF_HUB_OFFLINE) or not hub_reachable(constants.ENDPOINT)
    # Left alone, the hub's libraries retry for 25 s a file where there is no hub.
    quick = {"HF_HUB_OFFLINE": True} if offline else {}
    made_in = {name: home / name for name in _CACHES} if folder else {}
    try:
        with setting(constants, **quick), setting(datasets.config, **quick, **made_in):
            revision = local_revision(folder) if folder else ""
            if folder:
                dataset = {**task.metadata.dataset, "revision": revision}
                dataset = _stand_in_of(task, folder, revision, home) if on_hub else dataset
                task.metadata = task.metadata.model_copy(update={"dataset": dataset})
            task.load_data()
        if folder and local_revision(folder) != revision:
            raise UserError(f"{folder} changed while it was read: run the same command again")
    except LayerscopeError:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and isinstance(full := cannot_write(home, cause), RunFailedError):
                raise full from error
            cause = cause.__cause__ or cause.__context__
        if not on_hub:
            raise UserError(f"{here}: its data could not be made ({reason_of(error)})") from error
        if folder:
            raise UserError(
                f"{here}: the stand-in {folder} is not the data that the task expects ({reason_of(error)}): it must hold "
                "the hub's raw columns, one file a split"
            ) from error
        raise _no_data(task, data_dir, offline=offline, error=error) from error
    # A task that overrides load_data and forgets the flag would load again for every layer.
    task.data_loaded = True


def _source(task: Any, data_dir: str | None) -> tuple[bool, Path | None]:  # noqa: ANN401
    """Whether a task's data is a set of the hub, and the local folder that it is read from: a stand-in, or its own."""
    path = str(task.metadata.dataset["path"])
    if path.count("/") == 1 and not Path(path).exists() and not path.startswith((".", "~", "/")):
        return True, stand_in(path, data_dir)
    return False, Path(path) if Path(path).is_dir() else None


def _stand_in_of(task: Any, folder: Path, revision: str, home: Path) -> dict[str, str]:  # noqa: ANN401
    """The data set of a task, as read from a folder that stands in for the hub."""
    configs = _configs(folder)
    wanted = [] if task.fast_loading or not task.metadata.is_multilingual else list(task.hf_subsets)
    retrieval = _is_retrieval(task)
    here, found = f"task {task.metadata.name}: the stand-in {folder}", ", ".join(configs) or "none"
    for name in wanted:
        if not ({f"{name}-corpus", f"{name}-queries"} if retrieval else {name}) <= configs.keys():
            raise UserError(f"{here} has no config {name!r} (configs: {found}): put it at {folder / name}/test.jsonl")
    if retrieval and not wanted and not {"corpus", "queries"} <= configs.keys():
        raise UserError(
            f"{here} needs the folders corpus, queries and qrels (found {found}): the columns are _id and text, _id and "
            "text, query-id, corpus-id and score"
        )
    reranking = retrieval and task.metadata.type in ("Reranking", "InstructionReranking")
    if reranking and not any("top_ranked" in name for name in configs):
        # Without it MTEB ranks the whole corpus and still calls the result reranking.
        raise UserError(f"{here} needs the folder top_ranked (columns query-id, corpus-ids)")
    named = task.metadata.dataset.get("name")
    dataset = {"path": str(_staged(folder, configs, home)), "revision": revision}
    return dataset | ({"name": named} if named in configs else {})


def _is_retrieval(task: Any) -> bool:  # noqa: ANN401
    from mteb.abstasks import AbsTaskRetrieval

    return isinstance(task, AbsTaskRetrieval)


def _configs(folder: Path) -> dict[str, dict[str, Path]]:
    """Files by config and split: a folder a config; files beside them are the config `default`.

    Where the folder's README names its configs, the names are those, without files.
    """
    if _names_configs(folder):
        return {name: {} for name in datasets.get_dataset_config_names(str(folder))}
    found: dict[str, dict[str, Path]] = {}
    for home in (folder, *sorted(child for child in folder.iterdir() if child.is_dir())):
        splits: dict[str, Path] = {}
        for suffix in reversed(SUFFIXES):
            splits |= {file.stem: file for file in home.glob(f"*{suffix}") if file.is_file()}
        if splits:
            found["default" if home == folder else home.name] = dict(sorted(splits.items()))
    return found


def _staged(folder: Path, configs: dict[str, dict[str, Path]], home: Path) -> Path:
    """The folder itself, or one of links with the README that says which file is which config.

    Without that README the `datasets` library silently reads all folders as one table.
    """
    if set(configs) == {"default"} or _names_configs(folder):
        return folder
    make_folder(home)
    staged = Path(tempfile.mkdtemp(prefix="stand-in-", dir=home))
    # JSON is YAML too.
    card: dict[str, list[object]] = {"configs": []}
    for name, splits in configs.items():
        files = []
        for split, file in splits.items():
            link = f"{name}--{split}{file.suffix}"
            (staged / link).symlink_to(file.resolve())
            files.append({"split": split, "path": link})
        card["configs"].append({"config_name": name, "data_files": files})
    write_text(staged / "README.md", f"---\n{json.dumps(card)}\n---\n")
    return staged


def _names_configs(folder: Path) -> bool:
    readme = folder / "README.md"
    return readme.is_file() and b"configs" in read_bytes(readme)


def local_revision(folder: Path) -> str:
    """The revision of the data in a folder: the start of the hash of its files' names and content.

    Raises:
        UserError: a file cannot be read.
    """
    everything = _names_configs(folder)
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        # A README that names configs may name files of any kind, and decides itself which rows are read.
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.suffix in SUFFIXES or (everything and not hidden):
            digest.update(os.fsencode(file.relative_to(folder)))
            digest.update(bytes.fromhex(sum_of(file, follow=True)))
    return f"{LOCAL}{digest.hexdigest()[:12]}"


def _no_data(task: Any, data_dir: str | None, *, offline: bool, error: Exception) -> UserError:  # noqa: ANN401
    root, path = data_dir or os.environ.get(DATA_DIR), str(task.metadata.dataset["path"])
    why = "the hub cannot be reached" if offline else f"the hub did not give it ({reason_of(error)})"
    there = f"is not under data_dir {root!r}" if root else "has no stand-in (no data_dir is set)"
    place = Path(root or "DIR") / path
    if _is_retrieval(task):
        kinds = ["corpus", "queries", "qrels", *(["top_ranked"] if "rerank" in task.metadata.type.lower() else [])]
        wanted = f"{place}/{{{','.join(kinds)}}}/{task.eval_splits[0]}.jsonl"
    else:
        splits = list(dict.fromkeys(filter(None, (getattr(task, "train_split", None), *task.eval_splits))))
        subset = f"{task.hf_subsets[0]}/" if task.metadata.is_multilingual and not task.fast_loading else ""
        wanted = f"{place}/{subset}" + (f"{{{','.join(splits)}}}.jsonl" if splits[1:] else f"{splits[0]}.jsonl")
    return UserError(
        f"task {task.metadata.name}: data set {path!r} {there}, and {why}: put it at {wanted} and give --data-dir "
        f"{root or 'DIR'}, or connect to the internet"
    )
