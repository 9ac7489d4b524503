"""What can be said with modules that sentence-transformers already has, and what is refused because it cannot."""

from __future__ import annotations

import copy

from transformers import PreTrainedTokenizerBase

from layerscope.errors import UnsupportedModelError, UserError
from layerscope.export.spec import ExportSpec
from layerscope.inputs.models import LoadedModel
from layerscope.inputs.prompts import special_ids, tokenize

NO_LIMIT = int(1e30)
"""How transformers writes down that a tokenizer has no longest text."""

_FRAMED = ("", "a", "The tide comes in twice a day.", "42")


def refuse_choice(spec: ExportSpec) -> None:
    """Refuse what no export can express, before anything is loaded.

    Raises:
        UserError: readout hf, positions no-sink, or the first of the tokens that are left without the first.
    """
    if spec.readout == "hf":
        raise UserError(
            "readout hf cannot be exported: it is raw below the last layer and normed at the last one, "
            "so say which with readout raw or normed"
        )
    if spec.positions == "no-sink":
        raise UserError(
            "positions no-sink cannot be exported: which tokens are left out depends on their norms in each text, and "
            "sentence-transformers has no module for that; export all (readout normed weakens sinks) or no-first"
        )
    if spec.positions == "no-first" and spec.pooling == "first":
        raise UserError(
            "positions no-first with pooling first (the second token) cannot be exported: sentence-transformers takes "
            "the first token or none; use pooling mean or last"
        )


def refuse_model(model: LoadedModel) -> None:
    """Refuse a model that plain sentence-transformers would not run as it ran here.

    Raises:
        UnsupportedModelError: a decoder beside an encoder, code of its own, packed weights, or several devices.
    """
    name = type(model.model).__name__
    if model.spec.part == "decoder":
        raise UnsupportedModelError(
            f"the decoder of {name} cannot be exported: sentence-transformers runs the encoder of such a model, and a "
            "decoder needs what the encoder made of the text; export part=encoder"
        )
    if type(model.model).__module__.startswith("transformers_modules"):
        raise UnsupportedModelError(
            f"{name} is code that came with the model, so SentenceTransformer would not load the export without "
            "trust_remote_code: only model classes of transformers can be exported"
        )
    if getattr(model.model.config, "quantization_config", None) is not None:
        raise UnsupportedModelError(
            f"the weights of {name} are packed by a quantisation method and cannot be cut: give the model's unquantised "
            "checkpoint"
        )
    if model.spec.device_map is not None:
        raise UnsupportedModelError("an export is written from one device: leave out device_map")


def export_tokenizer(model: LoadedModel, context: int | None) -> PreTrainedTokenizerBase:
    """A copy of the tokenizer that pads, pads on the right, and cuts at the context."""
    tokenizer: PreTrainedTokenizerBase = copy.deepcopy(model.tokenizer)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token_id is None or not 0 <= tokenizer.pad_token_id < model.vocab:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(model.pad_id)
    tokenizer.model_max_length = NO_LIMIT if context is None else context
    return tokenizer


def first_token_id(model: LoadedModel, texts: tuple[str, ...] = ()) -> int:
    """The id of the special token that the tokenizer puts before every text, and nowhere else.

    Leaving out position 0 is then the same as leaving out that id, which a word weight of 0 does.

    Raises:
        UserError: the first token is a token of the text, or its id comes again.
    """
    tokens = tokenize([*_FRAMED, *texts], model.tokenizer, model.context)
    firsts = {ids[0] if ids else None for ids in tokens}
    only = firsts.pop()
    why = ""
    if firsts or only is None or only not in special_ids(model.tokenizer):
        why = (
            "its tokenizer puts no special token first, and sentence-transformers can leave out a token by its id, not a "
            "real one by its place"
        )
    elif any(only in ids[1:] for ids in tokens):
        why = (
            f"its first token ({model.tokenizer.convert_ids_to_tokens(only)!r}) also comes later in a text, and "
            "sentence-transformers would leave out both"
        )
    if why or only is None:
        raise UserError(f"positions no-first of {model.spec.name} cannot be exported: {why}; use positions all")
    return only
