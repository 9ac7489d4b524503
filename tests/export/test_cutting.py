"""Every family is cut at every layer, or refused, and what is refused is listed here."""

import pytest
import torch
from tests.families import DEPTH, FAMILIES

from layerscope.config import ModelSpec
from layerscope.errors import UnsupportedModelError
from layerscope.export.cutting import cut_model
from layerscope.inputs.models import load_model

# A decoder beside an encoder is refused before anything is cut.
CUT = [name for name, family in FAMILIES.items() if family.part != "decoder"]

# Raw states that no output of the family shows: after the last block, where only block inputs are shown; and the
# embeddings, where only block outputs are.
REFUSED = {
    *((name, "raw", DEPTH) for name in ("falcon", "bloom", "gptj", "mpt")),
    *((name, "raw", 0) for name in ("mamba", "mamba2", "falcon-mamba")),
    # Its config is not read with no block in it.
    ("modernbert", "normed", 0),
}
# One block more than the layer is kept.
ONE_MORE = {
    *((name, "raw", layer) for name in ("falcon", "bloom", "gptj", "mpt") for layer in range(DEPTH)),
    *((name, "raw", 0) for name in CUT if FAMILIES[name].final_norm and not name.endswith(("mamba", "mamba2"))),
    *(("deberta-v2", readout, 0) for readout in ("raw", "normed")),
}


@pytest.mark.parametrize("name", CUT)
def test_every_layer_of_every_family_is_cut_or_refused(name, family_model):
    model = family_model(name)
    whole = {tensor.data_ptr() for tensor in model.model.state_dict().values()}
    for readout in ("normed", "raw"):
        for layer in range(DEPTH + 1):
            case = (name, readout, layer)
            if case in REFUSED:
                with pytest.raises(UnsupportedModelError, match=f"{readout} states of layer {layer}: .*Export"):
                    cut_model(model, layer, readout)
                continue
            cut = cut_model(model, layer, readout)
            assert cut.blocks == layer + (case in ONE_MORE), case
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
