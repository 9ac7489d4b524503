"""Hub data sets as tables of texts, and the local folder that stands in for them where there is no internet."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerscope.errors import UserError
from layerscope.files.reading import expanded
from layerscope.inputs.files import SUFFIXES, Table, file_revision, open_table, table_of_rows
from layerscope.inputs.quiet import said_as

DATA_DIR = "LAYERSCOPE_DATA_DIR"
MOST_ROWS = 1_000_000  # of one split; more would not fit in memory as Python strings
_NAME = re.compile(r"hub:([^/:\\]+/[^/:\\]+)(?::([^:]*))?(?::([^:]*))?(?::([^:]*))?", re.DOTALL)
_TIMEOUT = 10.0  # seconds that the hub may take to answer whether it is there


@dataclass(frozen=True)
class HubName:
    """A hub data set, `org/name[:config[:split[:column]]]`; None where nothing was said."""

    path: str
    config: str | None = None
    split: str | None = None
    column: str | None = None

    @property
    def text(self) -> str:
        """What the user writes for it."""
        return f"hub:{self.path}:{self.config or ''}:{self.split or ''}:{self.column or ''}".rstrip(":")


def parse_hub(source: str) -> HubName:
    """Read `hub:org/name[:config[:split[:column]]]`; a part may be left empty, as in `hub:org/name::test`.

    A UserError where the name is not org/name, or there are too many parts.
    """
    found = _NAME.fullmatch(source)
    if found is None or {".", ".."} & set(found[1].split("/")):
        raise UserError(f"texts {source!r}: expected hub:org/name[:config[:split[:column]]]")
    config, split, column = ((part or "").strip() or None for part in found.groups()[1:])
    return HubName(found[1], config, split, column)


def stand_in(path: str, data_dir: str | None) -> Path | None:
    """The folder that stands in for the hub data set org/name: DIR/org/name, if it is there.

    DIR is `data_dir`, or else the environment's LAYERSCOPE_DATA_DIR; a UserError where it is not a folder.
    """
    root = data_dir or os.environ.get(DATA_DIR)
    if not root:
        return None
    base = expanded(root)
    if not base.is_dir():
        where = "data_dir" if data_dir else DATA_DIR
        raise UserError(f"{where} {root!r} is not a folder: give one that holds org/name for each data set")
    folder = base / path
    return folder if folder.is_dir() else None


def read_hub(name: HubName, data_dir: str | None, limit: int) -> tuple[Table, str]:
    """Rows of a hub data set, from its stand-in where there is one, else from the hub or its cache.

    Args:
        name: the data set; the split is `train` where none is given, or the only one of a stand-in.
        data_dir: see `stand_in`.
        limit: read at most this many rows, the first ones.

    Returns:
        The rows, and the revision: the hub's commit, or `data_dir sha256:...` for a stand-in.

    Raises:
        UserError: the data set is neither under data_dir nor reachable, or has no such config or split.
    """
    file = _stand_in_file(name, data_dir)
    if file is not None:
        # First the hash: what is read after it is what it names, or `load_texts` sees the difference.
        revision = f"data_dir {file_revision(file)}"
        return open_table(file, limit), revision
    import datasets

    commit = None if _offline() else _commit(name)
    cache, kept = Path(datasets.config.HF_DATASETS_CACHE), name.path.replace("/", "___")
    if commit is None and not any((cache / each).is_dir() for each in (kept.lower(), kept)):
        raise _unreachable(name, data_dir)

    def say(text: str, error: BaseException) -> UserError:
        if isinstance(error, ValueError):
            # a config or split that is not there: the library's message lists what is
            return UserError(f"hub data set {name.path!r}: {text}")
        if isinstance(error, OSError):
            return _unreachable(name, data_dir)
        # the readers of many formats and the HTTP library raise what they like; the cause stays chained
        what = f"{type(error).__name__}: {text}"[:300]
        return UserError(
            f"hub data set {name.path!r} cannot be read ({what}): check its config and split on the hub, or put the texts "
            "in a file"
        )

    streaming = commit is not None
    with said_as(say):
        rows: Any = datasets.load_dataset(
            name.path, name.config, split=name.split or "train", revision=commit, streaming=streaming
        )
        # streaming reads the first rows only: some of these data sets are many gigabytes
        taken = list(rows.take(limit)) if streaming else rows.select(range(min(limit, len(rows)))).to_list()
    table = table_of_rows(name.text, taken)
    files = getattr(rows, "cache_files", None) or [{"filename": "unknown/rows"}]
    return table, commit or f"cached {Path(files[0]['filename']).parent.name}"


def hub_revision(name: HubName, data_dir: str | None) -> str:
    """The revision that `read_hub` would give now, with no row read.

    A UserError where the data set is not under data_dir, and the hub cannot be asked.
    """
    import huggingface_hub

    from layerscope.inputs.checkpoints import hub_reachable

    file = _stand_in_file(name, data_dir)
    if file is not None:
        return f"data_dir {file_revision(file)}"
    commit = None if _offline() or not hub_reachable(huggingface_hub.constants.ENDPOINT) else _commit(name)
    if commit is None:
        raise _unreachable(name, data_dir)
    return commit


def _stand_in_file(name: HubName, data_dir: str | None) -> Path | None:
    """The file of the config and split in a stand-in: {split}.{suffix}, in a folder of the config or without one."""
    folder = stand_in(name.path, data_dir)
    if folder is None:
        return None
    configs = sorted(child.name for child in folder.iterdir() if child.is_dir() and _splits(child))
    home = folder  # a stand-in without config folders holds the one config that is wanted
    if name.config is not None and name.config in configs:
        home /= name.config
    elif not _splits(folder) and name.config is None and (len(configs) == 1 or "default" in configs):
        home /= configs[0] if len(configs) == 1 else "default"
    splits = _splits(home)
    if not splits and configs:
        asked = f"no config {name.config!r}" if name.config else "several configs"
        raise UserError(f"the stand-in {str(folder)!r} has {asked} (configs: {', '.join(configs)}): choose one of them")
    if not splits:
        raise UserError(
            f"the stand-in {str(folder)!r} holds no data: expected files such as {name.split or 'train'}.jsonl "
            f"({', '.join(SUFFIXES)}), or a folder of them for each config"
        )
    split = name.split or ("train" if "train" in splits else next(iter(splits)) if len(splits) == 1 else None)
    if split not in splits:
        asked = f"no split {split!r}" if split else "several splits and no 'train'"
        raise UserError(f"the stand-in {str(home)!r} has {asked} (splits: {', '.join(splits)}): choose one of them")
    return splits[split]


def _splits(folder: Path) -> dict[str, Path]:
    """Files of a folder by split; where a split is there in several formats, the first of SUFFIXES."""
    found: dict[str, Path] = {}
    for suffix in reversed(SUFFIXES):
        found |= {path.stem: path for path in folder.glob(f"*{suffix}") if path.is_file()}
    return dict(sorted(found.items()))


def _offline() -> bool:
    import huggingface_hub

    return bool(huggingface_hub.constants.HF_HUB_OFFLINE)


def _commit(name: HubName) -> str | None:
    """The data set's current commit; None where the hub cannot be reached."""
    import huggingface_hub

    try:
        return huggingface_hub.HfApi().dataset_info(name.path, timeout=_TIMEOUT).sha
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in {401, 403, 404}:
            raise UserError(
                f"hub data set {name.path!r} does not exist or needs a login (the hub answered {status}): check the name, "
                "or log in with `hf auth login`"
            ) from error
        # the hub's client lets the errors of whichever HTTP library it was built on through: all others mean not reachable
        return None


def _unreachable(name: HubName, data_dir: str | None) -> UserError:
    root = data_dir or os.environ.get(DATA_DIR)
    why = "HF_HUB_OFFLINE is set and it is not in the cache" if _offline() else "the hub cannot be reached"
    there = f"is not under data_dir {root!r}" if root else "has no stand-in (no data_dir is set)"
    config = f"{name.config}/" if name.config else ""
    wanted = Path(root or "DIR") / name.path / f"{config}{name.split or 'train'}.jsonl"
    return UserError(
        f"hub data set {name.path!r} {there}, and {why}: put it at {str(wanted)!r} (or .csv, .parquet, .txt) and give "
        f"--data-dir {root or 'DIR'} or {DATA_DIR}, or connect to the internet"
    )
