"""load_model: a name becomes a headless model whose parts are known and whose quirks are dealt with."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from warnings import catch_warnings

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from layerscope.config import ModelSpec
from layerscope.errors import LayerscopeError, UnsupportedModelError, UserError, lacking
from layerscope.inputs import adapters, attention, model_classes, padding, processor, prompts, sizes
from layerscope.inputs.checkpoints import Checkpoint, find_checkpoint, weights_of
from layerscope.inputs.context import longest_input
from layerscope.inputs.lengths import ANY_LENGTHS, Lengths
from layerscope.inputs.parts import PROBE_TOKENS, Parts, find_parts, input_device, probe_ids, table_rows
from layerscope.inputs.quiet import quiet_libraries, said_as
from layerscope.inputs.standing import set_plain_pass
from layerscope.inputs.weights import check_finite, check_keys, drawn_keys, listed_weights, unused_keys

_OTHER_PRECISION = re.compile(r"dtype|scalar type|not implemented for '")


class PrecisionError(UnsupportedModelError):
    """The model's code does not compute in the half precision it was loaded in."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be read: headless, in eval mode, its parts found and checked."""

    spec: ModelSpec
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    parts: Parts
    dim: int
    context: int | None
    revision: str
    device: torch.device
    dtype: torch.dtype
    warnings: tuple[str, ...]
    attentions: bool = False
    fast_matmul: bool = False
    lengths: Lengths = ANY_LENGTHS
    """Which prompts may share a batch."""
    weights: str = ""
    """sha256 of the weights without the config, to tell whether two checkpoints are one."""
    twins: list[LoadedModel] = field(default_factory=list, repr=False, compare=False)
    """The same weights under modules of their own, for passes beside each other; made when first needed."""

    @property
    def n_layers(self) -> int:
        """How many blocks the model has; states exist for layers 0 to n_layers."""
        return len(self.parts.blocks)

    @property
    def vocab(self) -> int:
        """How many token ids the model has embeddings for."""
        return table_rows(self.model)

    @property
    def pad_id(self) -> int:
        """The id to pad with. Padding is on the right and masked, so any id that the model has an embedding for does."""
        return _pad_id(self.tokenizer, self.vocab)


def load_model(spec: ModelSpec, *, attentions: bool = False) -> LoadedModel:
    """Load a model, find its parts, and refuse it where a number taken from it would be wrong.

    Args:
        spec: which model, and how.
        attentions: load it with the attention that returns its weights ("eager", slower).

    Raises:
        UserError: no such model or adapter, damaged or pickled weights, weights missing in the checkpoint, a device
            this machine does not have, attentions of a family without any.
        UnsupportedModelError: the one rule does not find the model's parts, padding changes its states, or full
            attention was asked for and did not come about.
        RunFailedError: the weights hold NaN or infinity.
        DamagedError: a file of the model is not what it should be.
    """
    device = processor.choose_device(spec.device)
    dtype = processor.choose_dtype(spec.dtype, device)
    try:
        return _load(spec, device, dtype, attentions=attentions)
    except PrecisionError as error:
        if spec.dtype != "auto":
            raise
        loaded = _load(spec, device, torch.float32, attentions=attentions)
        why = str(error).partition(": ")[0]
        return replace(loaded, warnings=(*loaded.warnings, f"auto chose float32: {why}"))


def _load(spec: ModelSpec, device: torch.device, dtype: torch.dtype, *, attentions: bool) -> LoadedModel:
    checkpoint = find_checkpoint(spec)
    warnings = list(checkpoint.warnings)
    if spec.trust_remote_code:
        warnings.append("trust_remote_code was on: code that comes with the model could run")
    # Some classes draw their weights at random before the checkpoint's replace them.
    with said_as(partial(_loading_error, spec)), quiet_libraries(), torch.random.fork_rng(devices=[]):
        loaded, notes = _from_pretrained(spec, checkpoint, device, dtype, attentions=attentions)
        tokenizer = _load_tokenizer(spec, checkpoint)
    model, revision = stack_to_run(loaded, spec), checkpoint.revision
    check_finite(model, spec.name)
    if spec.adapter is not None:
        model, merged, more = adapters.merge_adapter(model, spec.adapter, allow_pickle=spec.allow_pickle)
        revision, notes = f"{revision}+adapter:{merged}", (*notes, *more)
        check_finite(model, f"{spec.name} with its adapter")
    ready = ready_model(model, tokenizer, spec, revision, attentions=attentions)
    if ready.parts.standing is not None:
        ready.parts.standing.watch(checkpoint.files)
    warnings += (*notes, *ready.warnings)
    fast = False
    if spec.fast_matmul and dtype != torch.float32:
        warnings.append(f"fast_matmul was off: it is for float32, the model runs in {dtype}")
    elif spec.fast_matmul:
        error = processor.fast_matmul_error(device)
        fast = error < processor.FAST_MATMUL_ERROR
        said = f"relative error {error:.1e} of a product against float64"
        warnings.append(f"fast_matmul was on: {said}" if fast else f"fast_matmul was off: {said} is too large")
    weights = "" if spec.adapter else weights_of(checkpoint)
    return replace(ready, dtype=dtype, warnings=tuple(warnings), fast_matmul=fast, weights=weights)


def ready_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    spec: ModelSpec,
    revision: str,
    *,
    attentions: bool = False,
) -> LoadedModel:
    """Find and check the parts of a headless model in eval mode, by a few tiny forward passes.

    An UnsupportedModelError where the one rule does not find them, or padding changes the states.
    """
    with said_as(partial(_probing_error, model)), quiet_libraries():
        config = model.config.get_text_config()
        model_classes.require_ids_alone(model, config)
        vocab, device = table_rows(model), input_device(model)
        ids = probe_ids(vocab, getattr(config, "pad_token_id", None), device)
        notes: list[str] = []
        if spec.part == "decoder" and spec.bidirectional:
            raise UnsupportedModelError("bidirectional is for decoder-only models: leave it out with part=decoder")
        if spec.part == "decoder":
            depth = getattr(config, "num_decoder_layers", None) or getattr(config, "decoder_layers", None)
            parts = find_parts(model, int(depth or config.num_hidden_layers), ids, stack=model.get_decoder())
            notes.append("decoder states: the encoder reads the same prompt as the decoder")
        else:
            parts = find_parts(model, int(config.num_hidden_layers), ids)
        if spec.bidirectional:
            parts, notes = attention.attend_both_ways(model, parts, ids)
        context = longest_input(model, parts, ids)
        probe = padding.Probe(model, parts, vocab, _pad_id(tokenizer, vocab), device, context)
        lengths, why = padding.prove_batches(probe)
        if attentions:
            parts = attention.with_attentions(model, parts, ids)
    found = LoadedModel(
        spec, model, tokenizer, parts, parts.dim, context, revision, device, model.dtype, (*notes, *why)
    )
    return replace(found, attentions=attentions, lengths=lengths)


def _loading_error(spec: ModelSpec, text: str, error: BaseException) -> UserError:
    name = f"model {spec.name!r}"
    if isinstance(error, ImportError):
        return lacking(error, name)
    said = f"cannot load {name}: {text[:300]}"
    if "Padding_idx" in text:
        said = f"cannot load {name}: the pad_token_id of its config has no embedding: set it to null in config.json"
    elif "trust_remote_code" in text or "custom code" in text:
        said = (
            f"{name} comes with its own code, which layerscope does not run unasked: read the code, then pass "
            "trust_remote_code if you trust it"
        )
    elif "safetensors" in text and ("no file named" in text or "not appear to have" in text):
        said = (
            f"{name} has no safetensors weights (only pickled ones, perhaps): use a revision that has them, or pass "
            "allow_pickle if you trust where they came from"
        )
    return UserError(said)


def _probing_error(model: PreTrainedModel, text: str, error: BaseException) -> UnsupportedModelError:
    """A model that cannot even read a few tokens does not fit, whatever its code raises then."""
    name, text = type(model).__name__, text[:200]
    if isinstance(error, RuntimeError) and model.dtype in processor.HALF and _OTHER_PRECISION.search(text):
        dtype = str(model.dtype).removeprefix("torch.")
        return PrecisionError(f"{name} does not compute in {dtype} ({text}): use dtype float32")
    return UnsupportedModelError(
        f"{name} is not supported: it does not run on {PROBE_TOKENS} token ids and a mask alone (its own code says: {text})"
    )


def _from_pretrained(
    spec: ModelSpec, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, *, attentions: bool
) -> tuple[PreTrainedModel, tuple[str, ...]]:
    from transformers import AutoConfig, AutoModel

    source, options = checkpoint.source, checkpoint.loading(spec, dtype)
    with catch_warnings(action="ignore"):  # reading it for the model warns of the same
        config = AutoConfig.from_pretrained(source, **checkpoint.options, trust_remote_code=spec.trust_remote_code)
    if not (spec.trust_remote_code and getattr(config, "auto_map", None)):
        model_classes.require_text_class(config, spec.name)
        if not checkpoint.hub:
            files = listed_weights(Path(source), allow_pickle=spec.allow_pickle)
            sizes.check_room(config, sum(file.stat().st_size for file in files), spec.name)
    if attentions:
        options["attn_implementation"] = "eager"
    # Not to let them pass: `check_keys` names them, transformers only logs them.
    options["ignore_mismatched_sizes"] = True
    model, info = AutoModel.from_pretrained(source, **options)
    if not callable(model) or not hasattr(model, "config"):
        raise UnsupportedModelError(f"{type(model).__name__} is not a text model: expected one with hidden states")
    if getattr(model, "_hf_peft_config_loaded", False):
        raise UserError(
            f"model {spec.name!r} holds an adapter beside its weights, and transformers has read the model that the adapter "
            "names in place of it: give that model, and the adapter's folder as adapter"
        )
    info["missing_keys"] = drawn_keys(model, info["missing_keys"])
    named = model_classes.named_class(config)
    if info["missing_keys"] and named is not None and named is not type(model):
        # Some classes with a head call the parts otherwise than the headless class, which then finds none of them.
        whole, of_whole = named.from_pretrained(source, **options)
        if not of_whole["missing_keys"]:
            model, info = whole, of_whole
    check_keys(model, spec.name, info["missing_keys"], [key for key, *_ in info["mismatched_keys"]])
    set_plain_pass(model)
    if spec.device_map is None:
        model.to(device)
    stated, _ = PreTrainedConfig.get_config_dict(source, **checkpoint.options)
    notes = (*unused_keys(model, info["unexpected_keys"]), *model_classes.unread_settings(stated, model))
    return model.eval().requires_grad_(False), notes


def _load_tokenizer(spec: ModelSpec, checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer
    from transformers.utils import cached_file

    def say(text: str, error: BaseException) -> LayerscopeError:
        if "trust_remote_code" in text:
            return _loading_error(spec, text, error)
        what = f"model {spec.name!r} has no tokenizer that loads"
        return UserError(f"{what} ({text[:160]}): save its tokenizer beside the weights")

    source, options = checkpoint.source, checkpoint.options
    with said_as(say):
        file = cached_file(source, "tokenizer.json", **options, _raise_exceptions_for_missing_entries=False)
        if file is not None:
            sizes.check_normaliser(Path(file), spec.name)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source, **options, padding_side="right", trust_remote_code=spec.trust_remote_code
        )
        # One of an odd config loads, and looks for its special tokens for ever when it is asked for them.
        prompts.special_ids(tokenizer)
    return tokenizer


def stack_to_run(model: PreTrainedModel, spec: ModelSpec) -> PreTrainedModel:
    """The part of a composite model that reads text: a multimodal model's language model, one stack of two."""
    if getattr(model.config, "is_encoder_decoder", False):
        if spec.part is None:
            raise UserError(
                f"{type(model).__name__} has an encoder and a decoder, and their layers are not one sequence: "
                "say which with part=encoder or part=decoder"
            )
        stack = model.get_encoder() if spec.part == "encoder" else model
        return model_classes.without_head(stack, f"the {spec.part} of {type(model).__name__}")
    if spec.part is not None:
        raise UserError(f"{type(model).__name__} has one stack of layers: leave out part={spec.part}")
    stack = model if model.config.get_text_config() is model.config else model.get_decoder()
    return model_classes.without_head(stack, f"the language model of {type(model).__name__}")


def _pad_id(tokenizer: PreTrainedTokenizerBase, vocab: int) -> int:
    for chosen in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if isinstance(chosen, int) and 0 <= chosen < vocab:
            return chosen
    return 0
