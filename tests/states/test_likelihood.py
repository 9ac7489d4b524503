"""Losses of prompts against the model alone, and which models have none."""

import math
import shutil

import numpy as np
import pytest
import torch
from tests.families import DIM, Family, build_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from layerscope.config import ModelSpec
from layerscope.errors import UnsupportedModelError
from layerscope.states.likelihood import load_language_model, token_losses

PROMPTS = [[5, 9, 11, 3, 40, 7], [8], [12, 13], [70, 60, 50, 40], [*range(20, 50)]]


def with_head(folder, target, kind):
    """The tiny model of a family with a random head, beside its tokenizer."""
    shutil.copytree(folder, target)
    for weights in target.glob("*.safetensors"):
        weights.unlink()
    torch.manual_seed(0)
    kind.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(target)
    return ModelSpec(name=str(target))


@pytest.mark.parametrize("family", ["llama", "gpt-neox", "mamba2", "phi3"])
def test_losses_are_those_of_each_prompt_alone(family, family_folder, tmp_path):
    spec = with_head(family_folder(family), tmp_path / "model", AutoModelForCausalLM)
    model = load_language_model(spec)
    shares = []
    losses = token_losses(model, PROMPTS, 0, shares.append)
    for tokens, loss in zip(PROMPTS, losses, strict=True):
        if len(tokens) == 1:
            assert math.isnan(loss)
            continue
        ids = torch.tensor([tokens])
        with torch.no_grad():
            logp = model.model(input_ids=ids).logits[0].double().log_softmax(-1)
        alone = -np.mean([float(logp[t, tokens[t + 1]]) for t in range(len(tokens) - 1)])
        assert loss == pytest.approx(alone, abs=1e-5)
    assert shares[-1] == 1.0


def test_rwkv_keeps_its_weights_as_they_were_trained(tmp_path):
    family = Family("rwkv", {"hidden_size": DIM, "num_hidden_layers": 8, "attention_hidden_size": DIM})
    whole = build_model(family, auto_class=AutoModelForCausalLM)
    whole.save_pretrained(tmp_path)
    model = load_language_model(ModelSpec(name=str(tmp_path)))
    [loss] = token_losses(model, PROMPTS[:1], 0)
    with torch.no_grad():
        logp = whole(input_ids=torch.tensor(PROMPTS[:1])).logits[0].double().log_softmax(-1)
    assert loss == pytest.approx(-float(logp[range(5), PROMPTS[0][1:]].mean()), abs=1e-5)


def test_a_masked_model_has_no_next_token(family_folder, tmp_path):
    spec = with_head(family_folder("bert"), tmp_path / "model", AutoModelForMaskedLM)
    with pytest.raises(UnsupportedModelError, match="BertForMaskedLM predicts no next token"):
        load_language_model(spec)


def test_a_headless_checkpoint_is_refused_not_given_a_random_head(family_folder):
    with pytest.raises(UnsupportedModelError, match="holds no next-token head"):
        load_language_model(ModelSpec(name=str(family_folder("gpt-neox"))))


def test_full_attention_has_no_next_token(family_folder):
    with pytest.raises(UnsupportedModelError, match="no next-token probabilities with full attention"):
        load_language_model(ModelSpec(name=str(family_folder("llama")), bidirectional=True))
