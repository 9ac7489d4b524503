"""Every family is cut at every layer, or refused; what is expected of it stands in its entry of FAMILIES."""

import pytest
import torch
from tests.families import DEPTH, FAMILIES, save_tokenizer
from tests.sweep import tiny

from layerscope.config import ModelSpec
from layerscope.errors import UnsupportedModelError
from layerscope.export.cutting import cut_model
from layerscope.inputs.models import load_model
from layerscope.inputs.quiet import quiet_libraries

# A decoder beside an encoder is refused before anything is cut.
CUT = [name for name, family in FAMILIES.items() if family.part != "decoder"]


@pytest.mark.parametrize("name", CUT)
def test_every_layer_of_every_family_is_cut_or_refused(name, family_model):
    model = family_model(name)
    whole = {tensor.data_ptr() for tensor in model.model.state_dict().values()}
    for readout in ("normed", "raw"):
        for layer in range(DEPTH + 1):
            blocks = FAMILIES[name].kept(readout, layer)
            if blocks is None:
                with pytest.raises(UnsupportedModelError, match=f"{readout} states of layer {layer}: .*Export"):
                    cut_model(model, layer, readout)
                continue
            cut = cut_model(model, layer, readout)
            assert cut.blocks == blocks, (readout, layer)
            assert cut.model.config.num_hidden_layers == cut.blocks
            # No copy of a weight is made: the memory is the whole model's own.
            assert {tensor.data_ptr() for tensor in cut.model.state_dict().values()} <= whole
    assert model.model.config.num_hidden_layers == DEPTH
    assert getattr(model.model.config, "tie_last_hidden_states", None) is None


def test_lists_of_a_config_are_as_long_as_the_cut(family_model):
    cut = cut_model(family_model("gemma3"), 2, "normed")
    assert cut.model.config.layer_types == family_model("gemma3").model.config.layer_types[:2]


def test_full_attention_stays_when_cut(family_folder):
    model = load_model(ModelSpec(name=str(family_folder("mistral")), bidirectional=True))
    cut = cut_model(model, 2, "normed")
    assert cut.model.config.is_causal is False
    one, other = (cut.model(torch.tensor([[5, 6, 7, last]])).last_hidden_state[0, 0] for last in (8, 9))
    assert float((one - other).abs().max()) > 1e-3


@pytest.fixture
def tiny_type(tmp_path):
    """A model of a type that has no row in FAMILIES."""

    def load(model_type):
        with quiet_libraries():
            tiny.tiny_model(tiny.tiny_config(model_type)).save_pretrained(tmp_path)
        save_tokenizer(tmp_path)
        return load_model(ModelSpec(name=str(tmp_path)))

    return load


def test_a_config_that_is_read_as_another_one_is_named(tiny_type):
    """Gemma 4 sets the kind of its last layer itself; with one block more, layer 2 is no longer the last."""
    model = tiny_type("gemma4_text")
    assert model.model.config.layer_types == ["sliding_attention", "sliding_attention", "full_attention"]
    with pytest.raises(UnsupportedModelError, match=r"loads its config with another layer_types.*Export another layer"):
        cut_model(model, 2, "normed")
    assert cut_model(model, 2, "raw").blocks == 3


def test_tables_that_hold_something_for_every_block_are_cut_with_them(tiny_type):
    model = tiny_type("esm")
    wide = model.model.state_dict()["contact_head.regression.weight"]
    cut = cut_model(model, 2, "normed")
    assert torch.equal(cut.model.state_dict()["contact_head.regression.weight"], wide[:, : wide.shape[1] * 2 // 3])


def test_a_last_block_that_is_built_otherwise_is_named(tiny_type):
    model = tiny_type("gpt_neox_japanese")
    with pytest.raises(
        UnsupportedModelError, match=r"asks for layers\.1\.attention\.dense_bias, which the whole model"
    ):
        cut_model(model, 2, "normed")


def test_a_part_that_is_not_loaded_on_its_own_is_told_once(tiny_type):
    with pytest.raises(
        UnsupportedModelError, match=r"^SiglipTextModel cannot be exported: it is a part of a model, and"
    ):
        cut_model(tiny_type("siglip"), 2, "normed")
