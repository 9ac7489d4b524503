"""Where a task's data comes from: a local folder that stands in for the hub, the hub, or its cache."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from layerscope.errors import LayerscopeError, UserError
from layerscope.inputs.checkpoints import hub_reachable
from layerscope.inputs.gguf_files import cache_folder
from layerscope.inputs.hub import DATA_DIR, stand_in
from layerscope.results.files import make_folder, whole_file
from layerscope.tasks.evaluation import describe, quiet_mteb
from layerscope.tasks.random_state import RandomState, kept_random_state

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


def load_task_data(task: Any, data_dir: str | None) -> RandomState:  # noqa: ANN401
    """Load a task's data, from its stand-in where there is one.

    Args:
        task: an MTEB task; its data is loaded afterwards.
        data_dir: see `layerscope.inputs.hub.stand_in`.

    Returns:
        The global generators as they are after a plain build and load of the task; the process's own are kept.

    Raises:
        UserError: the data cannot be had, with the folder that would make it work, or is not what the task expects.
    """
    with kept_random_state(), quiet_mteb():
        if getattr(task, "is_aggregate", False):
            # The parts belong to the class: loading them there would not go with a packed task.
            parts = [copy.copy(part) for part in task.metadata.tasks]
            task.metadata = task.metadata.model_copy(update={"tasks": parts})
        RandomState.seeded(task.seed).restore()
        for part in subtasks(task):
            _load_part(part, data_dir)
        return RandomState.now()


def subtasks(task: Any) -> list[Any]:  # noqa: ANN401
    """The tasks an aggregate is made of; the task itself otherwise."""
    return list(task.metadata.tasks) if getattr(task, "is_aggregate", False) else [task]


def sample_counts(task: Any) -> dict[str, int]:  # noqa: ANN401
    """Samples of a loaded task by "split/subset": rows, or queries of a retrieval task."""
    counts: dict[str, int] = {}
    for part in subtasks(task):
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


def _load_part(task: Any, data_dir: str | None) -> None:  # noqa: ANN401
    name = task.metadata.name
    path = str(task.metadata.dataset["path"])
    # A task whose path is no name of the hub makes its own data.
    folder = stand_in(path, data_dir) if _is_hub_name(path) else None
    if folder is not None:
        _point_at(task, folder)
    try:
        with _offline_where_unreachable() as offline:
            task.load_data()
    except LayerscopeError:
        raise
    except Exception as error:
        if folder is not None:
            raise UserError(
                f"task {name}: the stand-in {folder} is not the data that the task expects ({describe(error)}): it must "
                "hold the hub's raw columns, one file a split"
            ) from error
        if not _is_hub_name(path):
            raise UserError(f"task {name}: its data could not be made ({describe(error)})") from error
        raise _no_data(task, data_dir, offline=offline, error=error) from error
    if not task.data_loaded:
        # A task that overrides load_data and forgets the flag would load again for every layer.
        task.data_loaded = True


def _is_hub_name(path: str) -> bool:
    return path.count("/") == 1 and not Path(path).exists() and not path.startswith((".", "~", "/"))


def _point_at(task: Any, folder: Path) -> None:  # noqa: ANN401
    configs = _configs(folder)
    wanted = [] if task.fast_loading or not task.metadata.is_multilingual else list(task.hf_subsets)
    retrieval = _is_retrieval(task)
    absent = [name for name in wanted if not _has_config(configs, name, retrieval=retrieval)]
    if absent:
        raise UserError(
            f"task {task.metadata.name}: the stand-in {folder} has no config {absent[0]!r} "
            f"(configs: {', '.join(configs) or 'none'}): put it at {folder / absent[0]}/test.jsonl"
        )
    if retrieval and not wanted and not {"corpus", "queries"} <= configs.keys():
        raise UserError(
            f"task {task.metadata.name}: the stand-in {folder} needs the folders corpus, queries and qrels "
            f"(found {', '.join(configs) or 'none'}): the columns are _id and text, _id and text, query-id, corpus-id and score"
        )
    if (
        task.metadata.type in ("Reranking", "InstructionReranking")
        and retrieval
        and not any("top_ranked" in c for c in configs)
    ):
        # Without it MTEB ranks the whole corpus and still calls the result reranking.
        raise UserError(
            f"task {task.metadata.name}: the stand-in {folder} needs the folder top_ranked (columns query-id, corpus-ids)"
        )
    named = task.metadata.dataset.get("name")
    dataset = {"path": str(_staged(folder, configs)), "revision": f"local-{_content_hash(folder)}"}
    if named in configs:
        dataset["name"] = named
    task.metadata = task.metadata.model_copy(update={"dataset": dataset})


def _is_retrieval(task: Any) -> bool:  # noqa: ANN401
    from mteb.abstasks import AbsTaskRetrieval

    return isinstance(task, AbsTaskRetrieval)


def _has_config(configs: dict[str, dict[str, Path]], name: str, *, retrieval: bool) -> bool:
    if retrieval:
        return f"{name}-corpus" in configs and f"{name}-queries" in configs
    return name in configs


def _configs(folder: Path) -> dict[str, dict[str, Path]]:
    """Files by config and split: a folder a config; files beside them are the config `default`.

    Where the folder's README names its configs, the names are those, without files.
    """
    if _names_configs(folder):
        import datasets

        return {name: {} for name in datasets.get_dataset_config_names(str(folder))}
    found: dict[str, dict[str, Path]] = {}
    for home in (folder, *sorted(child for child in folder.iterdir() if child.is_dir())):
        splits: dict[str, Path] = {}
        for suffix in reversed(SUFFIXES):
            splits |= {file.stem: file for file in home.glob(f"*{suffix}") if file.is_file()}
        if splits:
            found["default" if home == folder else home.name] = dict(sorted(splits.items()))
    return found


def _staged(folder: Path, configs: dict[str, dict[str, Path]]) -> Path:
    """The folder itself, or one of links with the README that says which file is which config.

    Without that README the `datasets` library silently reads all folders as one table.
    """
    if set(configs) == {"default"} or _names_configs(folder):
        return folder
    listing = repr([(name, split, str(file)) for name, splits in configs.items() for split, file in splits.items()])
    staged = cache_folder() / "stand-ins" / hashlib.sha256(f"{folder}{listing}".encode()).hexdigest()[:16]
    if staged.is_dir():
        return staged
    make_folder(staged.parent)
    # JSON is YAML too.
    card: dict[str, list[object]] = {"configs": []}
    with whole_file(staged) as temporary:
        temporary.mkdir()
        for name, splits in configs.items():
            files = []
            for split, file in splits.items():
                link = f"{name}--{split}{file.suffix}"
                (temporary / link).symlink_to(file.resolve())
                files.append({"split": split, "path": link})
            card["configs"].append({"config_name": name, "data_files": files})
        (temporary / "README.md").write_text(f"---\n{json.dumps(card)}\n---\n", encoding="utf-8")
    return staged


def _names_configs(folder: Path) -> bool:
    readme = folder / "README.md"
    return readme.is_file() and "configs" in readme.read_text(encoding="utf-8")


def _content_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file()):
        digest.update(str(file.relative_to(folder)).encode())
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()[:12]


@contextmanager
def _offline_where_unreachable() -> Iterator[bool]:
    """Tell the hub's libraries at once when there is no hub; left alone they retry for 25 s a file."""
    import datasets
    import huggingface_hub

    constants, config = huggingface_hub.constants, datasets.config
    offline = bool(constants.HF_HUB_OFFLINE) or not hub_reachable(constants.ENDPOINT)
    before = constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE
    try:
        if offline:
            constants.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = True
        yield offline
    finally:
        constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before


def _no_data(task: Any, data_dir: str | None, *, offline: bool, error: Exception) -> UserError:  # noqa: ANN401
    root = data_dir or os.environ.get(DATA_DIR)
    path = str(task.metadata.dataset["path"])
    why = "the hub cannot be reached" if offline else f"the hub did not give it ({describe(error)})"
    there = f"is not under data_dir {root!r}" if root else "has no stand-in (no data_dir is set)"
    return UserError(
        f"task {task.metadata.name}: data set {path!r} {there}, and {why}: put it at "
        f"{_wanted_files(task, Path(root or 'DIR') / path)} and give --data-dir {root or 'DIR'}, or connect to the internet"
    )


def _wanted_files(task: Any, folder: Path) -> str:  # noqa: ANN401
    splits: Sequence[str | None] = [getattr(task, "train_split", None), *task.eval_splits]
    if _is_retrieval(task):
        kinds = ["corpus", "queries", "qrels", *(["top_ranked"] if "rerank" in task.metadata.type.lower() else [])]
        return f"{folder}/{{{','.join(kinds)}}}/{task.eval_splits[0]}.jsonl"
    names = ",".join(dict.fromkeys(split for split in splits if split))
    subset = f"{task.hf_subsets[0]}/" if task.metadata.is_multilingual and not task.fast_loading else ""
    return f"{folder}/{subset}" + (f"{{{names}}}.jsonl" if "," in names else f"{names}.jsonl")
