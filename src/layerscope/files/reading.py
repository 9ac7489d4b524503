"""The one way to read a file: a regular one, of a bounded size, of the shape that it should have, and whose it is."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, TypeAdapter, ValidationError

from layerscope.errors import DamagedError, RunFailedError, UserError
from layerscope.files.writing import make_folder, write_text

Shape = TypeVar("Shape")
MOST = 64 << 20
"""Bytes that a JSON file may have: far above any that is written here, far below what fills a memory."""
SEAL = "seal"
_LOOKED_AT = 1 << 16  # bytes at the beginning and the end of a file that tell who wrote it
MADE_AGAIN = "run the same command again, which makes it again"


def open_regular(path: Path, *, follow: bool = True) -> BufferedReader:
    """Open a regular file, or a link to one with `follow`; a pipe or a device is refused instead of waited for.

    Raises:
        UserError: it is not there, may not be read, or is no regular file; the message says which.
    """
    # O_NONBLOCK, so that a pipe without a writer opens at once and can be refused.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if not follow and path.is_symlink():
            raise UserError(f"{path} is a link, and a run's own files lie in its folder: put the file itself there")
        descriptor = os.open(path, flags | (0 if follow else getattr(os, "O_NOFOLLOW", 0)))
    except (OSError, ValueError) as error:
        raise cannot_read(path, error) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        what = "is a folder" if stat.S_ISDIR(mode) else "is no regular file"
        raise UserError(f"{path} {what}: expected a file")
    return os.fdopen(descriptor, "rb")


def expanded(name: str) -> Path:
    """A path as the user wrote it, with ~ for the home folder; a ~ that is nobody's is a part of the name."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def cannot_read(path: Path, error: OSError | ValueError) -> UserError:
    """The error for a file that is not there or may not be read: nothing is said about its content."""
    reason = str(getattr(error, "strerror", None) or error)
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path} does not exist: check the path")
    advice = "allow reading it" if isinstance(error, PermissionError) else "check the path"
    return UserError(f"{path} cannot be read ({reason}): {advice}")


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """In place of an OSError inside the block (a path too long, forbidden), raise a UserError that names the file."""
    try:
        yield
    except OSError as error:
        raise cannot_read(Path(error.filename or path), error) from error


def free_or_ours(path: Path, mark: bytes, *, force: bool) -> None:
    """Make the folder of a file that a user wants, and refuse to write over one that layerscope did not write.

    Every file of its kind has `mark` near its beginning or end; with `force` any regular file may be replaced.

    Raises:
        UserError: another program's file is there, or something that is no regular file.
        RunFailedError: the disk is full.
    """
    make_folder(path.parent)
    if path.is_symlink() or not path.exists():
        return  # A link is refused when it would be replaced.
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        found = file.read(_LOOKED_AT)
        file.seek(max(0, size - _LOOKED_AT))
        found += file.read(_LOOKED_AT)
    if size and mark not in found and not force:
        raise UserError(
            f"{path} was not written by this command and is not replaced: choose another --out, or give --force"
        )


def read_bytes(path: Path, *, most: int = MOST, follow: bool = True) -> bytes:
    """The content of a regular file; a UserError where it has more than `most` bytes, and what `open_regular` raises."""
    with open_regular(path, follow=follow) as file, named_errors(path):
        content = file.read(most + 1)
    if len(content) > most:
        raise UserError(f"{path} has more than {most:,} bytes: expected a smaller file")
    return content


def read_json(path: Path, shape: type[Shape], *, advice: str = "it is damaged", follow: bool = True) -> Shape:
    """Read a JSON file, or a link to one with `follow`, into a type that pydantic can check, such as `dict[str, str]`.

    `advice` says what to do where it holds something else; it is the end of the message.

    Raises:
        UserError: it cannot be opened.
        DamagedError: it is not JSON, or not of the shape; the message says where.
    """
    return _as(path, shape, _parsed(path, advice, follow=follow), advice)


def write_sealed(model: BaseModel, path: Path) -> None:
    """Write a model as JSON with the hash of its content, whole or not at all. Raises what `whole_file` raises."""
    content = model.model_dump(mode="json")
    write_text(path, json.dumps({**content, SEAL: _seal(content)}, indent=2, ensure_ascii=False) + "\n")


def read_sealed(path: Path, shape: type[Shape], *, version: int, since: int, advice: str) -> Shape:
    """Read what `write_sealed` wrote, and refuse it where anything in it has changed since. See `read_json`; no links.

    Args:
        version: the newest `schema_version` that is known.
        since: the `schema_version` from which on such files are sealed; those before it are only checked for their shape.

    Raises:
        UserError: it cannot be opened.
        DamagedError: it is not as it was written; the message says what is wrong.
        RunFailedError: it is of a newer version.
    """
    content = _parsed(path, advice, follow=False)
    if not isinstance(content, dict):
        raise DamagedError(f"{path} is damaged (it holds no JSON object): {advice}")
    seal = content.pop(SEAL, None)
    # What has no version is of the first.
    found = content.get("schema_version", 1)
    if not (seal is None and isinstance(found, int) and found < since) and seal != _seal(content):
        raise DamagedError(f"{path} is damaged (its content is not what was written): {advice}")
    if isinstance(found, int) and found > version:
        raise RunFailedError(
            f"{path} has schema version {found}, this layerscope reads up to {version}: update layerscope"
        )
    return _as(path, shape, content, advice)


def read_toml(room: str, name: str) -> dict[str, Any]:
    """The content of NAME.toml, a table of a room of layerscope."""
    return tomllib.loads(resources.files(f"layerscope.{room}").joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def sum_of(path: Path, *, follow: bool = False) -> str:
    """The sha256 of a regular file, in hexadecimal digits. Raises what `open_regular` raises."""
    with open_regular(path, follow=follow) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sums_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """`sum_of` for files of a folder, by their path in it."""
    return {name: sum_of(folder / name) for name in names}


def check_sum(path: Path, sums: Mapping[str, str], name: str, advice: str = MADE_AGAIN) -> None:
    """Refuse a file whose content is not what `sums` say of `name`, if anything: a DamagedError. See `open_regular`."""
    if sum_of(path) != sums.get(name):
        raise DamagedError(f"{path} is damaged (its content is not what was written): {advice}")


def read_parquet(path: Path, *, advice: str = "it is damaged") -> pa.Table:
    """Read a Parquet file; a DamagedError that ends with `advice` where it is none or damaged. See `open_regular`."""
    # pyarrow, not Polars: on damaged files Polars panics, past every `except Exception`.
    with open_regular(path) as file:
        try:
            return pq.read_table(file)
        except (pa.ArrowException, OSError, ValueError, KeyError, IndexError, MemoryError, OverflowError) as error:
            raise DamagedError(f"{path} is no whole Parquet file ({first_line(error)}): {advice}") from error


def read_array(path: Path, advice: str) -> np.ndarray:
    """Map a .npy file into memory; `advice` says what to do where it is damaged or gone, which is a DamagedError."""
    try:
        array: np.ndarray = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DamagedError(f"{path} cannot be read ({error}): {advice}") from error
    return array


def _parsed(path: Path, advice: str, *, follow: bool) -> Any:  # noqa: ANN401
    content = read_bytes(path, follow=follow)
    try:
        found = json.loads(content.decode("utf-8"))
        # A lone surrogate is a string that can be neither printed nor written.
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else first_line(error)
        raise DamagedError(f"{path} is no JSON ({what}): {advice}") from error
    return found


def _as(path: Path, shape: type[Shape], content: object, advice: str) -> Shape:
    try:
        found: Shape = TypeAdapter(shape).validate_python(content)
    except (ValidationError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "nested too deeply"}
        # Keys come from the file.
        where = ascii(".".join(map(str, first["loc"])) or "the whole")[1:-1][:200]
        raise DamagedError(f"{path} is not of the expected form ({where}: {first['msg']}): {advice}") from error
    return found


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode("utf-8")).hexdigest()


def first_line(error: Exception) -> str:
    """How the message of a library's error begins, or the error's type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
