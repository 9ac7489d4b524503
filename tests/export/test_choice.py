"""What can be expressed with the modules that are there, and what is refused."""

import pytest
from tests.export.conftest import save_reader

from layerscope.config import ModelSpec
from layerscope.errors import UnsupportedModelError, UserError
from layerscope.export.choice import (
    NO_LIMIT,
    export_tokenizer,
    first_token_id,
    refuse_choice,
    refuse_model,
)
from layerscope.export.spec import ExportSpec
from layerscope.inputs.models import load_model


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"readout": "hf"}, "raw below the last layer and normed at the last"),
        ({"positions": "no-sink"}, "depends on their norms"),
        ({"positions": "no-first", "pooling": "first"}, "the second token"),
    ],
)
def test_choices_that_no_module_expresses(options, why):
    with pytest.raises(UserError, match=why):
        refuse_choice(ExportSpec(layer=1, **options))


def test_choices_that_can_be_expressed():
    for readout in ("raw", "normed"):
        for pooling in ("mean", "last", "first"):
            refuse_choice(ExportSpec(layer=1, readout=readout, pooling=pooling))
    refuse_choice(ExportSpec(layer=1, positions="no-first", pooling="last"))


def test_a_decoder_beside_an_encoder(family_model):
    with pytest.raises(UnsupportedModelError, match="export part=encoder"):
        refuse_model(family_model("t5-decoder"))
    refuse_model(family_model("t5-encoder"))


def test_weights_that_are_packed(family_folder):
    model = load_model(ModelSpec(name=str(family_folder("llama"))))
    model.model.config.quantization_config = {"quant_method": "gptq"}
    with pytest.raises(UnsupportedModelError, match="unquantised checkpoint"):
        refuse_model(model)


def test_the_first_token_of_an_encoder_is_dropped_by_its_id(framed):
    assert first_token_id(load_model(ModelSpec(name=str(framed)))) == 1


def test_a_real_first_token_is_not_dropped_by_place(reader):
    with pytest.raises(UserError, match="puts no special token first"):
        first_token_id(load_model(ModelSpec(name=str(reader))))


def test_a_first_token_that_ends_texts_too(tmp_path):
    folder = save_reader(tmp_path / "both", first="<s>", last="<s>")
    with pytest.raises(UserError, match=r"'<s>'.*also comes later"):
        first_token_id(load_model(ModelSpec(name=str(folder))))


def test_the_tokenizer_is_a_copy_that_pads(family_model):
    model = family_model("llama")
    tokenizer = export_tokenizer(model, None)
    assert (tokenizer.padding_side, tokenizer.model_max_length) == ("right", NO_LIMIT)
    tokenizer.pad_token = "w5"
    assert model.tokenizer.pad_token == "w0"


def test_prompts_are_read_from_json_and_the_default_is_among_them():
    assert ExportSpec(prompts='{"query": "q: "}', default_prompt="query").prefix == "q: "
    assert ExportSpec(prompts={"query": "q: "}).prefix == ""
    with pytest.raises(ValueError, match="expected JSON"):
        ExportSpec(prompts="query: ")
    with pytest.raises(ValueError, match="not among the prompts"):
        ExportSpec(default_prompt="query")
