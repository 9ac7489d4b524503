"""Which class a config stands for: found inside wrappers, under other names, or refused with its reason."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from tests.families import save_tokenizer
from tests.sweep import tiny
from tests.sweep.check import check_type

from layerscope.config import ModelSpec
from layerscope.errors import UnsupportedModelError
from layerscope.inputs.models import load_model
from layerscope.inputs.quiet import quiet_libraries


# Llama 4 keeps its text model inside one with a head; LightOnOCR's headless class calls its parts otherwise than the
# class that checkpoints are saved from; Marian does not save its tables of sines; GroupViT's text model does not say
# where its embeddings are.
@pytest.mark.parametrize("model_type", ["llama4", "lighton_ocr", "marian", "groupvit"])
def test_states_are_those_of_plain_transformers(model_type):
    for outcome in check_type(model_type):
        assert (outcome["result"], outcome["reason"]) == ("right", "")


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("vit", "ViTModel is no text model: it reads image, not text"),
        ("whisper", "WhisperModel is no text model: it reads audio, not text"),
        ("decision_transformer", "DecisionTransformerModel is no text model: it reads states, not token ids"),
        ("siglip_text_model", "is of the type 'siglip_text_model', which transformers has no model without a head for"),
    ],
)
def test_a_config_alone_says_that_no_text_is_read(model_type, reason, tmp_path):
    from transformers import CONFIG_MAPPING

    CONFIG_MAPPING[model_type]().save_pretrained(tmp_path)
    save_file({"nothing": torch.zeros(1)}, tmp_path / "model.safetensors")
    save_tokenizer(tmp_path)
    with pytest.raises(UnsupportedModelError, match=reason):
        load_model(ModelSpec(name=str(tmp_path)))


@pytest.mark.parametrize(
    ("model_type", "part", "reason"),
    [
        ("canine", None, "its config has no vocab_size and so does not say which token ids it reads"),
        ("fsmt", "encoder", "the encoder of FSMTModel is not supported: it is no model of its own"),
        ("blt", None, "its config has no num_hidden_layers and so does not say how deep it is"),
        ("mm-grounding-dino", "decoder", "beside token ids it needs pixel_values"),
    ],
)
def test_what_does_not_run_on_token_ids_alone(model_type, part, reason, tmp_path):
    with quiet_libraries():
        tiny.tiny_model(tiny.tiny_config(model_type)).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with pytest.raises(UnsupportedModelError, match=reason):
        load_model(ModelSpec(name=str(tmp_path), part=part))


def test_positions_of_an_image_do_not_bound_a_text(tmp_path):
    """GIT reads texts of up to 64 tokens here; its image tower has 5 positions."""
    with quiet_libraries():
        tiny.tiny_model(tiny.tiny_config("git")).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    assert load_model(ModelSpec(name=str(tmp_path))).context == tiny.CONTEXT
