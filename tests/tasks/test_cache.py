"""What was written is read, whole or not at all, by any number of processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from layerscope.errors import RunFailedError
from layerscope.tasks.cache import (
    EmbeddingCache,
    MissingTextsError,
    drop_leftovers,
    drop_older,
    model_folder,
    text_hash,
)


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
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(RunFailedError, match="the disk is full"):
        cache.write(["a"], (0,), vectors("a", (0,)))
    assert list(tmp_path.iterdir()) == []


def written(folder, layers=(0, 1), dim=4):
    """A cache of a few texts, and what it holds."""
    texts = ["a", "b", "c"]
    EmbeddingCache(folder).write(texts, layers, vectors(texts, layers, dim))
    return texts, [EmbeddingCache(folder).read(texts, layer) for layer in layers]


@pytest.mark.parametrize("name", ["vectors", "texts", "shard.json"])
def test_a_shard_that_is_not_as_it_was_written_is_removed_and_its_texts_are_missing(tmp_path, name) -> None:
    rng = np.random.default_rng(0)
    for number in range(70):
        folder = tmp_path / f"{number}"
        texts, before = written(folder)
        file = next(folder.glob("shard-*")) / name
        content = bytearray(file.read_bytes())
        place = int(rng.integers(len(content)))
        content[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(content[:place] if number % 10 == 0 else content)
        cache = EmbeddingCache(folder)
        for layer, whole in enumerate(before):
            with suppress(MissingTextsError):
                assert np.array_equal(cache.read(texts, layer), whole)
        assert cache.missing(texts, [0]).keys() == (set() if any(folder.glob("shard-*")) else set(texts))
        assert cache.lost == (0 if any(folder.glob("shard-*")) else 1)
        cache.write(texts, (0, 1), np.stack(before))
        assert np.array_equal(EmbeddingCache(folder).read(texts, 1), before[1])


@pytest.mark.parametrize("name", ["vectors", "texts", "shard.json"])
@pytest.mark.parametrize("kind", ["gone", "pipe", "link"])
def test_a_file_of_a_shard_that_is_gone_a_pipe_or_a_link(tmp_path, name, kind) -> None:
    texts, _ = written(tmp_path / "cache")
    file = next((tmp_path / "cache").glob("shard-*")) / name
    file.rename(tmp_path / "kept")
    if kind != "gone":
        os.mkfifo(file) if kind == "pipe" else file.symlink_to(tmp_path / "kept")
    assert EmbeddingCache(tmp_path / "cache").missing(texts, [0]).keys() == set(texts)


def test_a_shard_of_another_cache_is_not_read(tmp_path) -> None:
    texts, _ = written(tmp_path / "raw_all_mean")
    shutil.copytree(tmp_path / "raw_all_mean", tmp_path / "normed_all_mean")
    assert EmbeddingCache(tmp_path / "normed_all_mean").missing(texts, [0]).keys() == set(texts)
    assert not EmbeddingCache(tmp_path / "raw_all_mean").missing(texts, [0])


def test_what_another_process_removed_as_damaged_is_missing(tmp_path) -> None:
    texts, _ = written(tmp_path)
    cache = EmbeddingCache(tmp_path)
    assert not cache.missing(texts, [0])
    shutil.rmtree(next(tmp_path.glob("shard-*")))
    assert cache.missing(texts, [0]).keys() == set(texts)


def test_embeddings_of_older_formats_are_removed_and_nothing_else(tmp_path) -> None:
    old, new, other = (model_folder(tmp_path, "m", {"format": form}) for form in (2, 3, "x"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "key.json").write_text('{"format": 1}')
    assert drop_older(tmp_path, 3) == 1
    assert sorted(tmp_path.iterdir()) == sorted([new, other, tmp_path / "mine"])
    assert not old.exists()


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
