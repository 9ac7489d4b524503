"""A model in memory: found inside its wrappers, read like the saved one, and left as it was."""

from __future__ import annotations

import pytest
import torch
from tests.families import FAMILIES, build_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from layerscope.config import ModelSpec
from layerscope.errors import RunFailedError, UnsupportedModelError, UserError
from layerscope.inputs.in_memory import headless, reading, state_hash
from layerscope.states.batches import make_batches
from layerscope.states.capture import capture

SPEC = ModelSpec(name="training@step3")


def with_head(family, **options):
    return build_model(FAMILIES[family], auto_class=AutoModelForCausalLM, **options)


@pytest.fixture
def tokenizer(family_folder):
    return AutoTokenizer.from_pretrained(family_folder("gpt-neox"))


def states(loaded):
    found = []
    [batch] = make_batches([[5, 6, 7, 8]], 64, loaded.pad_id)
    capture(loaded, batch, lambda layer, raw: found.append(raw.clone()))
    return found


@pytest.mark.parametrize("family", ["gpt-neox", "mamba2", "llama", "gpt2"])
def test_states_are_those_of_the_headless_model(family, tokenizer):
    model = with_head(family).train()
    model.config.use_cache = True
    with reading(model, tokenizer, SPEC) as loaded:
        assert (loaded.n_layers, loaded.dim, loaded.spec.name) == (3, 16, "training@step3")
        assert not loaded.model.training
        read = states(loaded)
    expected = model.eval().base_model(torch.tensor([[5, 6, 7, 8]]), use_cache=False, output_hidden_states=True)
    norm = getattr(model.base_model, FAMILIES[family].final_norm)
    assert torch.allclose(norm(read[3]), expected.last_hidden_state, atol=1e-6)


def test_everything_is_as_it_was_afterwards(tokenizer):
    model = with_head("gpt-neox", hidden_dropout=0.1).train()
    model.gpt_neox.layers[1].eval()  # a block that is kept fixed, say
    model.config.use_cache = True
    model(torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()
    modes = {name: module.training for name, module in model.named_modules()}
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    hooks = {name: len(module._forward_hooks) for name, module in model.named_modules()}
    with pytest.raises(ZeroDivisionError), reading(model, tokenizer, SPEC) as loaded:
        assert len(states(loaded)) / 0  # also when measuring fails
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert {name: len(module._forward_hooks) for name, module in model.named_modules()} == hooks
    assert model.config.use_cache is True
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad
        assert torch.equal(parameter.grad, gradients[name])
    model(
        torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])
    ).loss.backward()  # nothing cached stands in the way


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
def test_the_model_is_found_inside_its_wrappers(tokenizer):
    from peft import LoraConfig, get_peft_model

    model = with_head("llama")
    compiled = nn.Module()
    compiled._orig_mod = model  # what torch.compile makes, without the compiler
    for wrapped in (model, nn.DataParallel(model), compiled, nn.DataParallel(compiled)):
        assert headless(wrapped) is model.model
    lora = get_peft_model(model, LoraConfig(target_modules=["q_proj"], r=2, init_lora_weights=False))
    assert headless(lora) is model.model
    with reading(lora, tokenizer, SPEC) as loaded:
        tuned = states(loaded)
    with lora.disable_adapter(), reading(lora, tokenizer, SPEC) as loaded:
        assert not torch.equal(states(loaded)[-1], tuned[-1])  # the adapter took part


def test_what_is_no_transformers_model_is_refused(tokenizer):
    with (
        pytest.raises(UserError, match="expected a transformers model, got Linear"),
        reading(nn.Linear(2, 2), tokenizer, SPEC),
    ):
        pass


def test_a_family_that_does_not_fit_is_refused_and_left_as_it_was(tokenizer):
    from tests.families import REFUSED

    model = build_model(REFUSED["albert"]).train()
    with pytest.raises(UnsupportedModelError), reading(model, tokenizer, SPEC):
        pass
    assert model.training


def test_weights_that_diverged_are_refused(tokenizer):
    model = with_head("llama")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(RunFailedError, match="weights of training@step3 hold NaN"), reading(model, tokenizer, SPEC):
        pass


def test_the_revision_is_that_of_the_weights(tokenizer):
    model = with_head("llama")
    with reading(model, tokenizer, SPEC) as loaded:
        first = loaded.revision
    assert first == f"sha256:{state_hash(model.model)[:16]}"
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1  # no state depends on the head
    assert state_hash(model.model)[:16] == first.removeprefix("sha256:")
    with torch.no_grad():
        model.model.norm.weight[0] += 1e-6
    assert state_hash(model.model)[:16] != first.removeprefix("sha256:")
    assert state_hash(model.model.bfloat16())
