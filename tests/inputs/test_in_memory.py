"""A model in memory: found inside its wrappers, read like the saved one, and left as it was."""

from __future__ import annotations

import pytest
import torch
from tests.families import FAMILIES, Family, build_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from layerscope.config import ModelSpec
from layerscope.errors import RunFailedError, UnsupportedModelError, UserError
from layerscope.inputs.in_memory import headless, reading, state_hash
from layerscope.inputs.lengths import ANY_LENGTHS
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


@pytest.mark.parametrize("kind", ["rwkv", "xlstm"])
def test_a_family_that_changes_or_cuts_itself_in_a_pass(kind, tokenizer):
    options = {"hidden_size": 32, "num_hidden_layers": 8}
    options |= {"attention_hidden_size": 32} if kind == "rwkv" else {"num_heads": 4, "max_inference_chunksize": 2}
    model = build_model(Family(kind, options), auto_class=AutoModelForCausalLM).train()
    before = (model.config.to_dict(), {name: tensor.clone() for name, tensor in model.state_dict().items()})
    with reading(model, tokenizer, SPEC) as loaded:
        assert loaded.lengths == ANY_LENGTHS
        assert [state.shape[1] for state in states(loaded)] == [4] * 9
    assert model.config.to_dict() == before[0]
    assert all(torch.equal(tensor, before[1][name]) for name, tensor in model.state_dict().items())
    assert not getattr(model.base_model, "layers_are_rescaled", False)


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


def peft_config(kind):
    import peft

    targets = {"target_modules": ["q_proj", "v_proj"]}
    return {
        "lora": lambda: peft.LoraConfig(**targets, r=2, init_lora_weights=False),
        "rows of the table": lambda: peft.LoraConfig(
            **targets, r=2, init_lora_weights=False, trainable_token_indices={"embed_tokens": [6, 7]}
        ),
        "activated lora": lambda: peft.LoraConfig(
            **targets, r=2, init_lora_weights=False, task_type="CAUSAL_LM", alora_invocation_tokens=[50, 60]
        ),
        "dora": lambda: peft.LoraConfig(**targets, r=2, use_dora=True, init_lora_weights=False),
        "vera": lambda: peft.VeraConfig(target_modules=["q_proj"], r=2, init_weights=False),
        "ia3": lambda: peft.IA3Config(**targets, feedforward_modules=[], init_ia3_weights=False),
        "adaption": lambda: peft.AdaptionPromptConfig(adapter_len=2, adapter_layers=2, task_type="CAUSAL_LM"),
        "prompt tuning": lambda: peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
        "prefix tuning": lambda: peft.PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
        "p tuning": lambda: peft.PromptEncoderConfig(
            num_virtual_tokens=3, encoder_hidden_size=8, task_type="CAUSAL_LM"
        ),
    }[kind]()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["lora", "rows of the table", "dora", "vera", "ia3", "adaption"])
def test_adapters_inside_the_model_take_part(kind, tokenizer):
    from peft import get_peft_model

    torch.manual_seed(0)
    bare = with_head("llama")
    wrapped = get_peft_model(with_head("llama"), peft_config(kind)).train()
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "trainable_tokens" in name or "adaption_gate" in name or "vera_lambda" in name:
                parameter.fill_(0.5)  # as they begin, these are what was there
    with reading(wrapped, tokenizer, SPEC) as loaded:
        norm = loaded.model.norm
        read = norm(states(loaded)[3])
    assert wrapped.training
    wrapped.eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        right = wrapped(input_ids=ids, output_hidden_states=True).hidden_states[-1]
        plain = bare(input_ids=ids, output_hidden_states=True).hidden_states[-1]
    assert torch.allclose(read, right, atol=1e-5)
    assert not torch.allclose(read, plain, atol=1e-3)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["prompt tuning", "prefix tuning", "p tuning", "activated lora"])
def test_what_is_learned_outside_the_model_is_refused_with_the_reason(kind, tokenizer):
    from peft import get_peft_model

    wrapped = get_peft_model(with_head("llama"), peft_config(kind)).train()
    with (
        pytest.raises(UserError, match=r"PeftModelForCausalLM changes what LlamaForCausalLM computes \((p|activated)"),
        reading(nn.DataParallel(wrapped), tokenizer, SPEC),
    ):
        pass
    assert wrapped.training


def test_a_wrapper_of_ones_own_is_tried(tokenizer):
    class Own(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.model, self.scale = with_head("llama"), scale

        def forward(self, input_ids, attention_mask):
            embeds = self.model.get_input_embeddings()(input_ids) * self.scale
            return self.model(inputs_embeds=embeds, attention_mask=attention_mask)

    with reading(Own(1.0), tokenizer, SPEC) as loaded:
        assert len(states(loaded)) == 4
    with pytest.raises(UserError, match="Own changes what"), reading(Own(2.0), tokenizer, SPEC):
        pass
    odd, message = Own(1.0), r"cannot be tried .*give the transformers model inside it"
    odd.forward = lambda pixels: None
    with pytest.raises(UserError, match=message), reading(odd, tokenizer, SPEC):
        pass


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
