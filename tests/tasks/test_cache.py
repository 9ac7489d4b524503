"""What was written is read, whole or not at all, by any number of processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from layerscope.errors import RunFailedError
from layerscope.tasks.cache import EmbeddingCache, MissingTextsError, drop_leftovers, model_folder, text_hash


def vectors(texts, layers, dim=4) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.standard_normal((len(layers), len(texts), dim)).astype(np.float32)


def test_a_layer_comes_back_in_the_order_asked_for_from_several_shards(tmp_path) -> None:
    cache = EmbeddingCache(tmp_path)
    first, second = ["a", "b", "c"], ["d", "e"]
    one, two = vectors(first, (0, 2)), vectors(second, (0, 2)) + 10
    cache.write(first, (0, 2), one)
    cache.write(second, (0, 2), two)
    found = EmbeddingCache(tmp_path).read(["e", "a", "e", "c"], 2)
    assert np.array_equal(found, np.stack([two[1, 1], one[1, 0], two[1, 1], one[1, 2]]))
    assert found.dtype == np.float32


def test_missing_says_which_layers_and_each_text_once(tmp_path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.write(["a", "b"], (0, 1), vectors("ab", (0, 1)))
    cache.write(["a"], (2,), vectors("a", (2,)))
    assert cache.missing(["b", "x", "a", "x"], (0, 1, 2)) == {"b": {2}, "x": {0, 1, 2}}
    with pytest.raises(MissingTextsError) as error:
        cache.read(["a", "b", "x"], 2)
    assert error.value.texts == ("b", "x")


def test_the_first_vector_of_a_text_stays_the_one_that_is_read(tmp_path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.write(["a"], (0,), np.full((1, 1, 4), 1, np.float32))
    before = EmbeddingCache(tmp_path).read(["a"], 0)
    cache.write(["b"], (0,), np.full((1, 1, 4), 2, np.float32))
    assert np.array_equal(cache.read(["a"], 0), before)


def test_what_another_process_adds_is_seen(tmp_path) -> None:
    cache = EmbeddingCache(tmp_path)
    assert cache.missing(["a"], (0,))
    script = f"""
    import numpy as np
    from pathlib import Path
    from layerscope.tasks.cache import EmbeddingCache
    EmbeddingCache(Path({str(tmp_path)!r})).write(["a"], (0,), np.ones((1, 1, 4), np.float32))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
    assert np.array_equal(cache.read(["a"], 0), np.ones((1, 4)))


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch) -> None:
    cache = EmbeddingCache(tmp_path)
    monkeypatch.setattr(np, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(RunFailedError, match="the disk is full"):
        cache.write(["a"], (0,), vectors("a", (0,)))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_shard_is_named(tmp_path) -> None:
    EmbeddingCache(tmp_path).write(["a", "b"], (0,), vectors("ab", (0,)))
    file = next(tmp_path.glob("shard-*")) / "vectors.npy"
    file.write_bytes(file.read_bytes()[:140])
    with pytest.raises(
        RunFailedError, match=r"shard-\w+ in the cache of embeddings cannot be read .* delete that folder"
    ):
        EmbeddingCache(tmp_path).read(["a"], 0)


def test_only_old_leftovers_of_killed_runs_are_removed(tmp_path) -> None:
    old, young = (tmp_path / "normed_all_mean" / f".shard-{name}.tmp" for name in ("old", "young"))
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    drop_leftovers(tmp_path)
    assert not old.exists()
    assert young.exists()


def test_hashes_tell_texts_apart_that_look_alike() -> None:
    texts = ["a", "a ", "A", "á", "a\u0301", "\ud800", ""]
    assert len({text_hash(text) for text in texts}) == len(texts)


def test_another_option_is_another_folder(tmp_path) -> None:
    one = model_folder(tmp_path, "org/name", {"revision": "1", "context": 512})
    two = model_folder(tmp_path, "org/name", {"revision": "1", "context": 256})
    assert one != two
    assert one == model_folder(tmp_path, "org/name", {"context": 512, "revision": "1"})
    assert one.name.startswith("name-")
