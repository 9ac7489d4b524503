"""A LoRA adapter really changes the states, by as much as peft's own merge, or is refused."""

from __future__ import annotations

import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.families import DEPTH

from layerscope.config import ModelSpec
from layerscope.errors import UserError
from layerscope.inputs.models import load_model
from layerscope.inputs.quiet import quiet_libraries
from layerscope.states.batches import make_batches
from layerscope.states.capture import capture

PROMPT = [5, 9, 7, 30, 41, 8]


def top(model):
    found = []
    capture(model, make_batches([PROMPT], 100, 0)[0], lambda _, state: found.append(state.clone()), layers=[DEPTH])
    return found[0]


def save_adapter(base, out, *, head, targets=("q_proj", "v_proj", "down_proj"), task_type=None):
    """Make an adapter with random weights on the class with or without a head; return peft's own top state."""
    import transformers
    from peft import LoraConfig, get_peft_model

    auto_class = transformers.AutoModelForCausalLM if head else transformers.AutoModel
    with quiet_libraries(), warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore", FutureWarning)
        model = auto_class.from_pretrained(base).eval()
        config = LoraConfig(
            r=2, lora_alpha=8, target_modules=list(targets), init_lora_weights=False, task_type=task_type
        )
        wrapped = get_peft_model(model, config)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, tensor in wrapped.named_parameters():
                if "lora_" in name:
                    tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
        wrapped.save_pretrained(out)
        merged = wrapped.merge_and_unload()
        inner = merged.model if head else merged
        with torch.no_grad():
            return inner(torch.tensor([PROMPT])).last_hidden_state


@pytest.mark.parametrize(
    ("head", "task_type"), [(True, "CAUSAL_LM"), (True, None), (False, "FEATURE_EXTRACTION"), (False, None)]
)
def test_an_adapter_changes_states_as_pefts_own_merge_does(head, task_type, family_folder, family_model, tmp_path):
    base = family_folder("llama")
    theirs = save_adapter(base, tmp_path, head=head, task_type=task_type)
    random_state = torch.random.get_rng_state()
    model = load_model(ModelSpec(name=str(base), adapter=str(tmp_path)))
    ours = top(model)
    assert torch.allclose(model.parts.final_norm(ours), theirs, atol=1e-5)
    assert float((ours - top(family_model("llama"))).norm() / ours.norm()) > 0.05
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert not any("lora" in name for name, _ in model.model.named_modules())
    assert model.revision.startswith(family_model("llama").revision + "+adapter:sha256:")


HEADS = {
    "seq-cls": ("AutoModelForSequenceClassification", {"task_type": "SEQ_CLS"}, "score.weight"),
    "token-cls": ("AutoModelForTokenClassification", {"task_type": "TOKEN_CLS"}, "score."),
    "lm-head": ("AutoModelForCausalLM", {"target_modules": ["q_proj", "lm_head"]}, "lm_head."),
    "saved-head": (
        "AutoModelForCausalLM",
        {"modules_to_save": ["lm_head"], "task_type": "CAUSAL_LM"},
        "lm_head.weight",
    ),
    "saved-embedding": ("AutoModelForCausalLM", {"modules_to_save": ["embed_tokens", "lm_head"]}, "lm_head.weight"),
    "all-linear": (
        "AutoModelForSequenceClassification",
        {"target_modules": "all-linear", "task_type": "SEQ_CLS"},
        "score",
    ),
}


def save_with_head(base, out, auto_class, options):
    """An adapter of a class with a head, saved by peft; its own top state, with the adapter beside the weights."""
    import transformers
    from peft import LoraConfig, get_peft_model

    with quiet_libraries(), warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)  # peft draws what is added to below
        model = getattr(transformers, auto_class).from_pretrained(base).eval()
        given = {"target_modules": ["q_proj", "v_proj"], "r": 2, "lora_alpha": 8, "init_lora_weights": False} | options
        wrapped = get_peft_model(model, LoraConfig(**given)).eval()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, tensor in wrapped.named_parameters():
                if any(part in name for part in ("lora_", "modules_to_save", "trainable_tokens")):
                    tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.3)
            wrapped.save_pretrained(out)
            # Adapters live in the model's own modules; not every class with a head hands its states on.
            return wrapped.get_base_model().base_model(torch.tensor([PROMPT])).last_hidden_state


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", HEADS)
def test_an_adapters_head_is_left_out_and_the_rest_merged(kind, family_folder, tmp_path):
    auto_class, options, head = HEADS[kind]
    theirs = save_with_head(family_folder("llama"), tmp_path, auto_class, options)
    model = load_model(ModelSpec(name=str(family_folder("llama")), adapter=str(tmp_path)))
    # Merging adds up products in another order, which large random adapters amplify.
    assert torch.allclose(model.parts.final_norm(top(model)), theirs, atol=1e-4)
    [note] = model.warnings
    assert f"such as {head}" in note


def test_an_adapter_that_trained_rows_of_the_table(family_folder, tmp_path):
    options = {"trainable_token_indices": {"embed_tokens": PROMPT[:2]}}
    theirs = save_with_head(family_folder("llama"), tmp_path, "AutoModelForCausalLM", options)
    model = load_model(ModelSpec(name=str(family_folder("llama")), adapter=str(tmp_path)))
    assert torch.allclose(model.parts.final_norm(top(model)), theirs, atol=1e-4)


def test_an_encoders_classifier(family_folder, tmp_path):
    options = {"target_modules": ["query", "value"], "task_type": "SEQ_CLS"}
    theirs = save_with_head(family_folder("bert"), tmp_path, "AutoModelForSequenceClassification", options)
    model = load_model(ModelSpec(name=str(family_folder("bert")), adapter=str(tmp_path)))
    assert torch.allclose(top(model), theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("prompt tuning", "gives the model 3 learned positions .* nothing to merge"),
        ("prefix tuning", "gives the model 3 learned positions .* nothing to merge"),
        ("p tuning", "gives the model 3 learned positions .* nothing to merge"),
        ("activated lora", "changes the model's weights behind its invocation tokens alone"),
    ],
)
def test_what_is_no_change_of_weights_is_refused_with_the_true_reason(kind, reason, family_folder, tmp_path):
    from peft import get_peft_model
    from tests.inputs.test_in_memory import peft_config
    from transformers import AutoModelForCausalLM

    with quiet_libraries(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        get_peft_model(AutoModelForCausalLM.from_pretrained(family_folder("llama")), peft_config(kind)).save_pretrained(
            tmp_path
        )
    with pytest.raises(UserError, match=rf"is (an )?{kind}: it {reason}"):
        load_model(ModelSpec(name=str(family_folder("llama")), adapter=str(tmp_path)))


def test_an_adapter_and_full_attention_together(family_folder, tmp_path):
    base = family_folder("llama")
    save_adapter(base, tmp_path, head=True, task_type="CAUSAL_LM")
    both = load_model(ModelSpec(name=str(base), adapter=str(tmp_path), bidirectional=True))
    causal = load_model(ModelSpec(name=str(base), adapter=str(tmp_path)))
    assert not torch.equal(top(both)[0, 0], top(causal)[0, 0])


def edited(folder, change):
    file = folder / "adapter_model.safetensors"
    state = load_file(file)
    change(state)
    save_file(state, file)


def drop_one(state):
    del state[sorted(state)[0]]


def add_one(state):
    state["base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight"] = torch.zeros(2, 16)


def widen_one(state):
    key = sorted(state)[0]
    state[key] = torch.zeros(state[key].shape[0], state[key].shape[1] + 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [(drop_one, "1 weights are missing"), (add_one, "1 have no place"), (widen_one, "does not fit LlamaModel")],
)
def test_an_adapter_that_does_not_fit_exactly_is_refused(change, message, family_folder, tmp_path):
    save_adapter(family_folder("llama"), tmp_path, head=True, task_type="CAUSAL_LM")
    edited(tmp_path, change)
    with pytest.raises(UserError, match=message):
        load_model(ModelSpec(name=str(family_folder("llama")), adapter=str(tmp_path)))


def test_an_adapter_of_another_family_is_refused(family_folder, tmp_path):
    save_adapter(family_folder("llama"), tmp_path, head=True)
    with pytest.raises(UserError, match="does not fit GPT2Model"):
        load_model(ModelSpec(name=str(family_folder("gpt2")), adapter=str(tmp_path)))


def test_folders_that_are_no_adapter(family_folder, tmp_path):
    base = str(family_folder("llama"))
    with pytest.raises(UserError, match="does not exist"):
        load_model(ModelSpec(name=base, adapter=str(tmp_path / "nowhere")))
    with pytest.raises(UserError, match=r"adapter_config\.json"):
        load_model(ModelSpec(name=base, adapter=base))
    save_adapter(base, tmp_path, head=True)
    with pytest.raises(UserError, match="is an adapter, not a model"):
        load_model(ModelSpec(name=str(tmp_path)))
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"expected adapter_model\.safetensors"):
        load_model(ModelSpec(name=base, adapter=str(tmp_path)))


def test_an_adapter_beside_a_model_is_not_taken_for_it(family_folder, tmp_path):
    """transformers puts it on the model without a word, and the folder's hash does not know of it."""
    other = shutil.copytree(family_folder("llama"), tmp_path / "other")
    save_adapter(family_folder("llama"), other, head=False)
    with pytest.raises(UserError, match="holds an adapter beside a model"):
        load_model(ModelSpec(name=str(other)))


def test_a_pickled_adapter_is_loaded_only_when_asked(family_folder, tmp_path):
    base = family_folder("llama")
    theirs = save_adapter(base, tmp_path, head=True)
    file = tmp_path / "adapter_model.safetensors"
    torch.save(load_file(file), tmp_path / "adapter_model.bin")
    file.unlink()
    with pytest.raises(UserError, match="only pickled adapter weights"):
        load_model(ModelSpec(name=str(base), adapter=str(tmp_path)))
    model = load_model(ModelSpec(name=str(base), adapter=str(tmp_path), allow_pickle=True))
    assert "the adapter's weights were loaded from a pickle" in model.warnings
    assert torch.allclose(model.parts.final_norm(top(model)), theirs, atol=1e-5)
