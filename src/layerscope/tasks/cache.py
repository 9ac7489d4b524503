"""Embeddings on disk: every layer of a text written once, one layer of many texts read fast.

A state's folder holds shards. A shard is a folder of three arrays: `vectors.npy` (layers, texts, dim) float32, which is
read through memory mapping, so a layer is one contiguous block; `hashes.npy` (texts, 16) the starts of the texts'
SHA-256; and `layers.npy`. A shard appears whole, by a rename, and is never changed: any number of processes may read
and add at once, and a kill loses the chunk that was being encoded.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from layerscope.errors import RunFailedError
from layerscope.files.writing import make_folder, whole_file

HASH_BYTES = 16
_STALE_SECONDS = 24 * 3600.0


class MissingTextsError(LookupError):
    """Texts that were asked for are not in the cache."""

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__(f"{len(texts)} texts are not in the cache")
        self.texts = tuple(texts)


@dataclass(frozen=True)
class _Shard:
    vectors: Float32[np.ndarray, "layers texts dim"]
    layers: Mapping[int, int]


class EmbeddingCache:
    """Embeddings of one model, with one set of options, in one state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shards: dict[str, _Shard] = {}
        self._where: dict[bytes, list[tuple[str, int]]] = {}

    def refresh(self) -> None:
        """See what this and other processes have added since the last look."""
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob("shard-*")):
            if path.name not in self._shards:
                self._open(path)

    def missing(self, texts: Sequence[str], layers: Collection[int]) -> dict[str, frozenset[int]]:
        """The texts that lack some of the layers, each once, with the layers they lack."""
        self.refresh()
        wanted = frozenset(layers)
        lacking = {}
        for text in dict.fromkeys(texts):
            there = {layer for shard, _ in self._where.get(text_hash(text), ()) for layer in self._shards[shard].layers}
            if not wanted <= there:
                lacking[text] = wanted - there
        return lacking

    def read(self, texts: Sequence[str], layer: int) -> Float32[np.ndarray, "texts dim"]:
        """Vectors of one layer, in the order of the texts.

        Raises:
            MissingTextsError: some are not there.
        """
        places = self._places(texts, layer)
        if any(place is None for place in places):
            self.refresh()
            places = self._places(texts, layer)
        absent = [text for text, place in zip(texts, places, strict=True) if place is None]
        if absent:
            raise MissingTextsError(absent)
        by_shard: dict[str, list[tuple[int, int]]] = {}
        for position, place in enumerate(places):
            if place is not None:
                by_shard.setdefault(place[0], []).append((position, place[1]))
        dim = next((shard.vectors.shape[2] for shard in self._shards.values()), 0)
        found = np.empty((len(texts), dim), dtype=np.float32)
        for name, pairs in by_shard.items():
            shard = self._shards[name]
            positions, rows = (np.array(side) for side in zip(*pairs, strict=True))
            found[positions] = shard.vectors[shard.layers[layer]][rows]
        return found

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
        hashes = np.frombuffer(b"".join(text_hash(text) for text in texts), dtype=np.uint8).reshape(-1, HASH_BYTES)
        with whole_file(path) as temporary:
            temporary.mkdir()
            np.save(temporary / "vectors.npy", vectors)
            np.save(temporary / "hashes.npy", hashes)
            np.save(temporary / "layers.npy", np.array(layers, dtype=np.int32))
        self._open(path)

    def _places(self, texts: Sequence[str], layer: int) -> list[tuple[str, int] | None]:
        found: list[tuple[str, int] | None] = []
        for text in texts:
            places = self._where.get(text_hash(text), ())
            found.append(next((place for place in places if layer in self._shards[place[0]].layers), None))
        return found

    def _open(self, path: Path) -> None:
        try:
            vectors = np.load(path / "vectors.npy", mmap_mode="r")
            hashes = np.load(path / "hashes.npy")
            layers = np.load(path / "layers.npy")
            if vectors.shape[:2] != (len(layers), len(hashes)):
                raise ValueError(f"shape {vectors.shape} for {len(layers)} layers and {len(hashes)} texts")
        except (OSError, ValueError, EOFError) as error:
            raise RunFailedError(
                f"{path} in the cache of embeddings cannot be read ({error}): delete that folder, its texts are then "
                "encoded again"
            ) from error
        self._shards[path.name] = _Shard(vectors, {int(layer): row for row, layer in enumerate(layers)})
        for row, digest in enumerate(hashes):
            self._where.setdefault(digest.tobytes(), []).append((path.name, row))


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
        with whole_file(note) as temporary:
            temporary.write_text(json.dumps(dict(facts), indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return folder


def drop_leftovers(folder: Path) -> None:
    """Remove what killed runs left half-written. Young ones are let be: another process may be writing them."""
    for path in folder.glob("*/.shard-*.tmp"):
        try:
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
        except FileNotFoundError:
            continue
