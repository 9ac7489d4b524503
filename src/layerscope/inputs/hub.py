"""Hub data sets as tables of texts, and the local folder that stands in for them where there is no internet."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerscope.errors import UserError
from layerscope.files.reading import expanded
from layerscope.inputs.files import SUFFIXES, Table, file_revision, read_table, table_of_rows

DATA_DIR = "LAYERSCOPE_DATA_DIR"
MOST_ROWS = 1_000_000  # of one split; more would not fit in memory as Python strings
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
        parts = [self.path, self.config or "", self.split or "", self.column or ""]
        return "hub:" + ":".join(parts).rstrip(":")


def parse_hub(source: str) -> HubName:
    """Read `hub:org/name[:config[:split[:column]]]`; a part may be left empty, as in `hub:org/name::test`.

    Raises:
        UserError: the name is not org/name, or there are too many parts.
    """
    path, *rest = source.removeprefix("hub:").split(":")
    org, slash, name = path.partition("/")
    safe = all(part and part not in {".", ".."} for part in (org, name)) and "/" not in name and "\\" not in path
    if not slash or not safe or len(rest) > 3:
        raise UserError(f"texts {source!r}: expected hub:org/name[:config[:split[:column]]]")
    config, split, column = [part.strip() or None for part in (*rest, "", "", "")[:3]]
    return HubName(path, config, split, column)


def stand_in(path: str, data_dir: str | None) -> Path | None:
    """The folder that stands in for the hub data set org/name: DIR/org/name, if it is there.

    DIR is `data_dir`, or the environment's LAYERSCOPE_DATA_DIR where that is not given.

    Raises:
        UserError: DIR is not a folder.
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
    folder = stand_in(name.path, data_dir)
    if folder is not None:
        file = _stand_in_file(folder, name)
        # First the hash: what is read after it is what it names, or `load_texts` sees the difference.
        revision = f"data_dir {file_revision(file)}"
        return read_table(file, limit), revision
    return _read_remote(name, data_dir, limit)


def hub_revision(name: HubName, data_dir: str | None) -> str:
    """The revision that `read_hub` would give now, with no row read.

    Raises:
        UserError: the data set is not under data_dir, and the hub cannot be asked.
    """
    import huggingface_hub

    from layerscope.inputs.checkpoints import hub_reachable

    folder = stand_in(name.path, data_dir)
    if folder is not None:
        return f"data_dir {file_revision(_stand_in_file(folder, name))}"
    constants = huggingface_hub.constants
    offline = bool(constants.HF_HUB_OFFLINE)
    commit = None if offline or not hub_reachable(constants.ENDPOINT) else _commit(name)
    if commit is None:
        raise _unreachable(name, data_dir, offline=offline)
    return commit


def _stand_in_file(folder: Path, name: HubName) -> Path:
    """The file of the config and split in a stand-in: {split}.{suffix}, in a folder of the config or without one."""
    configs = sorted(child.name for child in folder.iterdir() if child.is_dir() and _splits(child))
    if name.config is not None and name.config in configs:
        home = folder / name.config
    elif _splits(folder):
        home = folder  # a stand-in without config folders holds the one config that is wanted
    elif name.config is None and len(configs) == 1:
        home = folder / configs[0]
    elif name.config is None and "default" in configs:
        home = folder / "default"
    elif configs:
        asked = f"no config {name.config!r}" if name.config else "several configs"
        raise UserError(f"the stand-in {str(folder)!r} has {asked} (configs: {', '.join(configs)}): choose one of them")
    else:
        raise UserError(
            f"the stand-in {str(folder)!r} holds no data: expected files such as "
            f"{name.split or 'train'}.jsonl ({', '.join(SUFFIXES)}), or a folder of them for each config"
        )
    splits = _splits(home)
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


def _read_remote(name: HubName, data_dir: str | None, limit: int) -> tuple[Table, str]:
    import datasets
    import huggingface_hub

    offline = bool(huggingface_hub.constants.HF_HUB_OFFLINE)
    commit = None if offline else _commit(name)
    if commit is None and not _cached(name.path):
        raise _unreachable(name, data_dir, offline=offline)
    split = name.split or "train"
    try:
        rows: Any = datasets.load_dataset(
            name.path, name.config, split=split, revision=commit, streaming=commit is not None
        )
        # streaming reads the first rows only: some of these data sets are many gigabytes
        taken = list(rows.take(limit)) if commit is not None else rows.select(range(min(limit, len(rows)))).to_list()
    except ValueError as error:
        # a config or split that is not there: the library's message lists what is
        raise UserError(f"hub data set {name.path!r}: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise _unreachable(name, data_dir, offline=offline) from error
    except Exception as error:
        # the readers of many formats and the HTTP library raise what they like; the cause stays chained
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(
            f"hub data set {name.path!r} cannot be read ({what}): check its config and split on the hub, or put the "
            f"texts in a file"
        ) from error
    table = table_of_rows(name.text, taken)
    kept = getattr(rows, "cache_files", None) or [{"filename": "unknown/rows"}]
    return table, commit or f"cached {Path(kept[0]['filename']).parent.name}"


def _commit(name: HubName) -> str | None:
    """The data set's current commit; None where the hub cannot be reached."""
    import huggingface_hub

    try:
        return huggingface_hub.HfApi().dataset_info(name.path, timeout=_TIMEOUT).sha
    except huggingface_hub.errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in {401, 403, 404}:
            raise UserError(
                f"hub data set {name.path!r} does not exist or needs a login (the hub answered {status}): check the "
                f"name, or log in with `hf auth login`"
            ) from error
        return None
    except Exception:  # noqa: BLE001
        # the hub's client lets the errors of whichever HTTP library it was built on through: all mean not reachable
        return None


def _cached(path: str) -> bool:
    import datasets

    cache, name = Path(datasets.config.HF_DATASETS_CACHE), path.replace("/", "___")
    return (cache / name.lower()).is_dir() or (cache / name).is_dir()


def _unreachable(name: HubName, data_dir: str | None, *, offline: bool) -> UserError:
    root = data_dir or os.environ.get(DATA_DIR)
    why = "HF_HUB_OFFLINE is set and it is not in the cache" if offline else "the hub cannot be reached"
    there = f"is not under data_dir {root!r}" if root else "has no stand-in (no data_dir is set)"
    config = f"{name.config}/" if name.config else ""
    wanted = Path(root or "DIR") / name.path / f"{config}{name.split or 'train'}.jsonl"
    return UserError(
        f"hub data set {name.path!r} {there}, and {why}: put it at {str(wanted)!r} (or .csv, .parquet, .txt) and give "
        f"--data-dir {root or 'DIR'} or {DATA_DIR}, or connect to the internet"
    )
