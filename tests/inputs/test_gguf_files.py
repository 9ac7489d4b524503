"""GGUF: the same states as the safetensors model it was made from, converted once, refused where it cannot be read."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import torch
from tests.families import DEPTH, FAMILIES, build_model
from tests.inputs.gguf_writing import write_gguf
from transformers import AutoModelForCausalLM

from layerscope.config import ModelSpec
from layerscope.errors import RunFailedError, UnsupportedModelError, UserError
from layerscope.inputs import gguf_files
from layerscope.inputs.gguf_files import cache_folder, convert_gguf
from layerscope.inputs.gguf_metadata import GgufMetadata
from layerscope.inputs.models import load_model
from layerscope.states.batches import make_batches
from layerscope.states.capture import capture


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERSCOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gguf"


@pytest.fixture
def gguf_file(family_model, tmp_path):
    return write_gguf(tmp_path / "tiny.gguf", build_model(FAMILIES["llama"], auto_class=AutoModelForCausalLM))


def states(model):
    found = []
    (batch,) = make_batches([[5, 9, 7, 30, 41]], 100, 0)
    capture(model, batch, lambda _, state: found.append(state.clone()))
    return found


def test_states_equal_those_of_the_model_it_was_made_from(gguf_file, family_model, cache):
    model = load_model(ModelSpec(name=str(gguf_file)))
    sha256 = hashlib.sha256(gguf_file.read_bytes()).hexdigest()
    assert model.revision == f"sha256:{sha256[:16]}+reading:2"
    assert model.weights == f"sha256:{sha256[:16]}"
    assert model.warnings == ()
    assert sorted(path.name for path in cache.iterdir()) == [sha256]
    for ours, theirs in zip(states(model), states(family_model("llama")), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_the_second_load_converts_nothing(gguf_file, cache, monkeypatch):
    first = load_model(ModelSpec(name=str(gguf_file)))
    monkeypatch.setattr(gguf_files, "_write", lambda *_: pytest.fail("converted twice"))
    second = load_model(ModelSpec(name=str(gguf_file)))
    assert all(torch.equal(a, b) for a, b in zip(states(first), states(second), strict=True))


def test_quantised_files_say_so(gguf_file, monkeypatch):
    note = json.loads((convert_gguf(gguf_file)[0] / "gguf.json").read_text())
    assert {**note, "seal": "", "files": sorted(note["files"])} == {
        "file": "tiny.gguf",
        "quantisation": "ALL_F32",
        "warnings": [],
        "reading": 2,
        "files": ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"],
        "seal": "",
    }
    monkeypatch.setattr(GgufMetadata, "quantisation", lambda _: "Q4_1")
    shutil.rmtree(cache_folder())
    assert load_model(ModelSpec(name=str(gguf_file))).warnings == ("de-quantised Q4_1 weights",)


def test_what_an_older_version_converted_is_converted_again(gguf_file):
    folder = convert_gguf(gguf_file)[0]
    note = {"file": "tiny.gguf", "quantisation": "ALL_F32"}  # as 0.1.0 wrote it, which left settings unread
    (folder / "gguf.json").write_text(json.dumps(note))
    (folder / "config.json").write_text("{}")
    assert load_model(ModelSpec(name=str(gguf_file))).n_layers == DEPTH


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "gguf.json"]
)
@pytest.mark.parametrize("damage", ["cut", "gone", "flipped", "link", "beside"])
def test_a_damaged_cache_is_made_again(gguf_file, name, damage, tmp_path):
    folder = convert_gguf(gguf_file)[0]
    file = folder / name
    whole = file.read_bytes()
    if damage == "cut":
        file.write_bytes(whole[:-3])
    elif damage == "flipped":
        middle = len(whole) // 2
        file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    elif damage == "beside":
        (folder / f"added-{name}").write_bytes(whole)
    else:
        file.rename(tmp_path / name)
        if damage == "link":
            file.symlink_to(tmp_path / name)
    assert convert_gguf(gguf_file)[0] == folder
    assert file.read_bytes() == whole
    assert not file.is_symlink()
    assert not (folder / f"added-{name}").exists()


def test_a_conversion_that_another_process_was_faster_with_is_left_to_it(gguf_file, monkeypatch):
    dequantise = gguf_files._dequantise

    def both(file, folder):
        dequantise(file, folder)
        monkeypatch.setattr(gguf_files, "_dequantise", dequantise)
        inodes.append(convert_gguf(file)[0].stat().st_ino)

    inodes: list[int] = []
    monkeypatch.setattr(gguf_files, "_dequantise", both)
    assert [convert_gguf(gguf_file)[0].stat().st_ino] == inodes


def test_a_full_disk_is_said_to_be_one(gguf_file, monkeypatch):
    import safetensors.torch

    def full(*_, **__):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(RunFailedError, match="the disk is full"):
        convert_gguf(gguf_file)


def test_an_interrupted_conversion_leaves_nothing(gguf_file, cache, monkeypatch):
    def stop(file, folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(gguf_files, "_dequantise", stop)
        with pytest.raises(KeyboardInterrupt):
            convert_gguf(gguf_file)
    assert list(cache.iterdir()) == []
    assert load_model(ModelSpec(name=str(gguf_file))).n_layers == DEPTH


def test_files_that_are_no_gguf(tmp_path, gguf_file):
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(UserError, match="is not a GGUF file"):
        convert_gguf(tmp_path / "text.gguf")
    (tmp_path / "short.gguf").write_bytes(gguf_file.read_bytes()[:200])
    with pytest.raises(UserError, match=r"short\.gguf cannot be read as a GGUF model"):
        convert_gguf(tmp_path / "short.gguf")


def test_an_architecture_transformers_cannot_read(tmp_path, family_model):
    model = build_model(FAMILIES["llama"], auto_class=AutoModelForCausalLM)
    file = write_gguf(tmp_path / "odd.gguf", model, architecture="jina-bert-v2")
    with pytest.raises(UnsupportedModelError, match=r"transformers cannot read odd\.gguf"):
        convert_gguf(file)


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("LAYERSCOPE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "layerscope"


def test_a_cache_that_cannot_be_written(gguf_file, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAYERSCOPE_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="choose a folder that you may write to, and set LAYERSCOPE_CACHE to it"):
        convert_gguf(gguf_file)
