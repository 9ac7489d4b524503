"""Embeddings on disk: every layer of a text written once, one layer of many texts read fast.

A state's folder holds shards. A shard is a folder of two arrays and a note: `vectors` (layers, texts, dim) float32, which is
read through memory mapping, so a layer is one contiguous block; `texts` (texts, 16) the starts of the texts' SHA-256; and
`shard.json` with the layers, the cache that it belongs to, and the hashes of its content, of each layer's by itself. The
arrays are bare numbers: a header could be damaged. A shard appears whole, by a rename, and is never changed: any number of
processes may read and add at once, and a kill loses the chunk that was being encoded. One that is not as it was written is
removed, and its texts are missing again.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel

from layerscope.errors import DamagedError, LayerscopeError
from layerscope.files.reading import cannot_read, read_bytes, read_json, read_sealed, write_sealed
from layerscope.files.writing import make_folder, whole_file, write_text

HASH_BYTES = 16
_DTYPE = np.dtype("<f4")
_STALE_SECONDS = 24 * 3600.0
VECTORS, HASHES, NOTE = "vectors", "texts", "shard.json"


class MissingTextsError(LookupError):
    """Texts that were asked for are not in the cache."""

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__(f"{len(texts)} texts are not in the cache")
        self.texts = tuple(texts)


class _Note(BaseModel):
    schema_version: int = 1
    cache: str
    layers: list[int]
    dim: int
    files: dict[str, str]
    """The sha256 of `texts`, and of each layer's vectors by its number."""


@dataclass(frozen=True)
class _Shard:
    vectors: Float32[np.ndarray, "layers texts dim"]
    note: _Note
    checked: set[int] = field(default_factory=set)

    def layer(self, layer: int) -> Float32[np.ndarray, "texts dim"]:
        """One layer's vectors, which are as they were written."""
        vectors: Float32[np.ndarray, "texts dim"] = self.vectors[self.note.layers.index(layer)]
        if layer not in self.checked:
            if _sum(vectors.data) != self.note.files.get(str(layer)):
                raise DamagedError(f"layer {layer} is not what was written")
            self.checked.add(layer)
        return vectors


class EmbeddingCache:
    """Embeddings of one model, with one set of options, in one state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lost = 0
        """How many shards were found damaged, here or in another process, and are gone."""
        self._shards: dict[str, _Shard] = {}
        self._dropped: set[str] = set()
        self._where: dict[bytes, list[tuple[str, int]]] = {}
        """By the hash of a text, the shards that hold it and its row in them."""

    def refresh(self) -> None:
        """See what this and other processes have added, and removed as damaged, since the last look."""
        there = {path.name: path for path in sorted(self.folder.glob("shard-*"))}
        for name in self._shards.keys() - there.keys():
            self._forget(name)
        for name in sorted(there.keys() - self._shards.keys() - self._dropped):
            self._open(there[name])

    def missing(self, texts: Sequence[str], layers: Collection[int]) -> dict[str, frozenset[int]]:
        """The texts that lack some of the layers, each once, with the layers they lack."""
        self.refresh()
        wanted = frozenset(layers)
        lacking = {}
        for text in dict.fromkeys(texts):
            places = self._where.get(text_hash(text), ())
            there = {layer for shard, _ in places for layer in self._shards[shard].note.layers}
            if not wanted <= there:
                lacking[text] = wanted - there
        return lacking

    def read(self, texts: Sequence[str], layer: int) -> Float32[np.ndarray, "texts dim"]:
        """Vectors of one layer, in the order of the texts.

        Raises:
            MissingTextsError: some are not there.
        """
        absent: list[str] = []
        # What is damaged may be there a second time, and what is not there may have come meanwhile.
        for _ in range(2):
            by_shard: dict[str, list[tuple[int, int]]] = {}
            for position, text in enumerate(texts):
                places = self._where.get(text_hash(text), ())
                name, row = next((place for place in places if layer in self._shards[place[0]].note.layers), ("", 0))
                by_shard.setdefault(name, []).append((position, row))
            absent = [texts[position] for position, _ in by_shard.pop("", ())]
            if not absent:
                dim = next((shard.vectors.shape[2] for shard in self._shards.values()), 0)
                found = np.empty((len(texts), dim), dtype=np.float32)
                for name, pairs in by_shard.items():
                    positions, rows = np.array(pairs).T
                    try:
                        found[positions] = self._shards[name].layer(layer)[rows]
                    except DamagedError:
                        self._drop(name)
                if by_shard.keys() <= self._shards.keys():
                    return found
            self.refresh()
        raise MissingTextsError(absent or texts)

    def write(
        self, texts: Sequence[str], layers: Sequence[int], vectors: Float32[np.ndarray, "layers texts dim"]
    ) -> None:
        """Add a shard, whole or not at all.

        Raises:
            RunFailedError: the disk is full.
            UserError: the folder cannot be written.
        """
        make_folder(self.folder)
        path = self.folder / f"shard-{uuid.uuid4().hex[:12]}"
        hashes = b"".join(text_hash(text) for text in texts)
        whole = np.ascontiguousarray(vectors, dtype=_DTYPE)
        sums = {str(layer): _sum(own.data) for layer, own in zip(layers, whole, strict=True)}
        files = {**sums, HASHES: _sum(hashes)}
        note = _Note(cache=self._identity, layers=list(layers), dim=whole.shape[2], files=files)
        with whole_file(path) as temporary:
            temporary.mkdir()
            (temporary / VECTORS).write_bytes(whole.data)
            (temporary / HASHES).write_bytes(hashes)
            write_sealed(note, temporary / NOTE)
        self._open(path)

    @property
    def _identity(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"

    def _open(self, path: Path) -> None:
        try:
            files = [path / name for name in (VECTORS, HASHES, NOTE)]
            if not all(file.is_file() and not file.is_symlink() for file in files):
                raise DamagedError(f"{path} is not whole, or is being removed")
            note = read_sealed(path / NOTE, _Note, version=1, since=1, advice="")
            hashes = read_bytes(path / HASHES)
            if (note.cache, note.files.get(HASHES)) != (self._identity, _sum(hashes)):
                raise DamagedError(f"{path} is not what was written")
            texts = [hashes[start : start + HASH_BYTES] for start in range(0, len(hashes), HASH_BYTES)]
            vectors = np.memmap(path / VECTORS, _DTYPE, "r", shape=(len(note.layers), len(texts), note.dim))
        except (DamagedError, ValueError):
            self._drop(path.name)
            return
        except OSError as error:
            raise cannot_read(path, error) from error
        self._shards[path.name] = _Shard(vectors, note)
        for row, digest in enumerate(texts):
            self._where.setdefault(digest, []).append((path.name, row))

    def _drop(self, name: str) -> None:
        # Where it cannot be removed, it is not looked at again.
        self._dropped.add(name)
        shutil.rmtree(self.folder / name, ignore_errors=True)
        self._forget(name)

    def _forget(self, name: str) -> None:
        self.lost += 1
        if self._shards.pop(name, None) is not None:
            self._where = {text: [p for p in places if p[0] != name] for text, places in self._where.items()}


def _sum(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()


def text_hash(text: str) -> bytes:
    """The start of a text's SHA-256. Lone surrogates are kept apart, not refused."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:HASH_BYTES]


def model_folder(root: Path, name: str, facts: Mapping[str, object]) -> Path:
    """The folder of a model under the cache's root: its name, and a hash of everything a vector depends on."""
    described = json.dumps(dict(facts), sort_keys=True)
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(name).name or name).strip("-.") or "model"
    folder = root / f"{safe}-{hashlib.sha256(described.encode()).hexdigest()[:12]}"
    make_folder(folder)
    note = folder / "key.json"
    if not note.exists():
        write_text(note, json.dumps(dict(facts), indent=2, sort_keys=True) + "\n")
    return folder


def drop_leftovers(folder: Path) -> None:
    """Remove what killed runs left half-written. Young ones are let be: another process may be writing them."""
    for path in folder.glob("*/.shard-*.tmp"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def drop_older(root: Path, form: int) -> int:
    """Remove the models' folders under the cache's root that are of an older format, and say how many they were."""
    dropped = 0
    for note in root.glob("*-????????????/key.json"):
        with suppress(LayerscopeError):
            found = read_json(note, dict[str, Any]).get("format")
            if isinstance(found, int) and found < form:
                shutil.rmtree(note.parent, ignore_errors=True)
                dropped += 1
    return dropped
