"""The model without its later blocks, and where in its output the layer's states stand."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForTextEncoding, PreTrainedConfig, PreTrainedModel

from layerscope.config import Readout
from layerscope.errors import UnsupportedModelError
from layerscope.inputs.model_classes import headless_class
from layerscope.inputs.models import LoadedModel
from layerscope.inputs.parts import PROBE_TOKENS, probe_ids
from layerscope.inputs.quiet import quiet_libraries
from layerscope.states.batches import Batch
from layerscope.states.capture import capture
from layerscope.states.readout import read_out
from layerscope.wording import counted

States = Float[Tensor, "prompts tokens dim"]
OutputName = str | tuple[str, int]
"""What sentence-transformers calls `method_output_name`: a field of the model's output, or an entry of one."""

_SAME = 1e-5


@dataclass(frozen=True)
class Cut:
    """A model that ends at a layer. Its weights are the loaded model's own tensors, not copies."""

    model: PreTrainedModel
    blocks: int
    """Blocks that were kept: the layer's number, or one more where the family shows its raw states only that way."""
    output: OutputName


@dataclass(frozen=True)
class _Way:
    """One way to write down a layer: how many blocks to keep, and where its states are then found."""

    blocks: int
    output: OutputName
    untied: bool = False
    """The last of the hidden states is the last block's output and not, as is usual, its norm."""


def cut_model(model: LoadedModel, layer: int, readout: Readout) -> Cut:
    """The model cut at `layer`, in the first way that gives the states of that layer.

    Families differ in what their `hidden_states` hold, so no list of families is kept: each way is tried on a few
    tokens and compared with what hooks read from the whole model.

    Args:
        model: the whole model.
        layer: 0 to the number of blocks.
        readout: raw or normed.

    Raises:
        UnsupportedModelError: no way gives these states; the message says what came of each.
    """
    source = _require_own_class(model)
    batch = _probe(model)
    wanted = _states(model, batch, layer, readout)
    found: list[str] = []
    for way in _ways(model, layer, readout):
        where = way.output if isinstance(way.output, str) else f"{way.output[0]}[{way.output[1]}]"
        kept = f"{counted(way.blocks, 'block')}, {where}"
        try:
            with quiet_libraries():
                cut = _without_later_blocks(model, source, way)
                error = _error(wanted, _output(cut, way.output, batch), batch)
        except Exception as problem:  # noqa: BLE001  (a class that does not fit raises whatever it raises)
            found.append(f"{kept}: {' '.join(str(problem).split())[:160] or type(problem).__name__}")
            continue
        if error <= _SAME:
            return Cut(cut, way.blocks, way.output)
        changed = _changed_settings(_cut_config(source.config, model.n_layers, way), cut.config)
        why = f", since transformers loads its config with another {', '.join(changed)}" if changed else ""
        found.append(f"{kept}: other states (relative error {error:.1g}){why}")
    advice = "Export another layer, or use layerscope's own encoding of this one"
    if readout == "raw" and model.parts.final_norm is not None:
        advice = "Export the readout normed, or another layer"
    raise UnsupportedModelError(
        f"{type(model.model).__name__} cannot be written down as a model that ends with the {readout} states of layer "
        f"{layer}: {'; '.join(found)}. {advice}"
    )


def _require_own_class(model: LoadedModel) -> PreTrainedModel:
    source = model.model
    if not isinstance(source, PreTrainedModel):
        raise UnsupportedModelError(f"{type(source).__name__} is not a model of transformers")
    config = copy.deepcopy(source.config)
    with quiet_libraries(), torch.device("meta"), torch.random.fork_rng(devices=[]):
        if headless_class(config) is None or not _classes(source, config):
            raise UnsupportedModelError(
                f"{type(source).__name__} cannot be exported: it is a part of a model, and transformers does not load "
                "this part from a folder of its own"
            )
    return source


def _ways(model: LoadedModel, layer: int, readout: Readout) -> Iterator[_Way]:
    if readout == "normed" or model.parts.final_norm is None:
        yield _Way(layer, "last_hidden_state")
        if model.parts.final_norm is not None:
            return
    yield _Way(layer, ("hidden_states", -1), untied=True)
    yield _Way(layer, ("hidden_states", -2), untied=True)
    if layer < model.n_layers:
        # What a block is given, where what the last one returns is not shown: the price is one block more.
        yield _Way(layer + 1, ("hidden_states", layer), untied=True)


def _without_later_blocks(model: LoadedModel, source: PreTrainedModel, way: _Way) -> PreTrainedModel:
    config = _cut_config(source.config, model.n_layers, way)
    # As it will be read from the folder: some configs set the kind of their last layer themselves.
    try:
        config = type(config).from_dict(config.to_dict())
    except Exception as error:
        what = f"transformers does not read a config of {counted(way.blocks, 'block')} of this family"
        raise UnsupportedModelError(what) from error
    # On the meta device nothing is drawn and nothing takes memory; every tensor is then the loaded model's own.
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            cut, named = _classes(source, config)[0]
    except Exception as error:
        what = f"transformers does not build {type(source).__name__} with {counted(way.blocks, 'block')}"
        raise UnsupportedModelError(what) from error
    state = source.state_dict()
    wanted = {key: (named(key), tuple(tensor.shape)) for key, tensor in cut.state_dict().items()}
    lost = _left_behind(model, way.blocks, {name for name, _ in wanted.values()})
    if lost:
        raise UnsupportedModelError(f"a shorter config leaves out {lost[0]} beside the later blocks")
    new = sorted(name for name, _ in wanted.values() if name not in state)
    if new:
        raise UnsupportedModelError(f"a shorter config asks for {new[0]}, which the whole model does not have")
    share = (way.blocks, model.n_layers)
    kept = {key: _first_share(state[name], shape, share) for key, (name, shape) in wanted.items()}
    cut.load_state_dict(kept, assign=True)
    cut.tie_weights()
    _fill_buffers(cut, source, named)
    return cut.eval().requires_grad_(False)


def _first_share(tensor: Tensor, shape: tuple[int, ...], share: tuple[int, int]) -> Tensor:
    """A tensor that holds something for every block, one after another, without what it holds for the later ones.

    Whether that is what it holds is not known here: the cut model's states are compared afterwards.
    """
    kept, of = share
    for dimension, (size, whole) in enumerate(zip(shape, tensor.shape, strict=False)):
        if size != whole and size * of == whole * kept:
            tensor = tensor.narrow(dimension, 0, size)
    if tuple(tensor.shape) != shape:
        raise UnsupportedModelError(
            f"a shorter config gives a weight the shape {shape} where it is {tuple(tensor.shape)}"
        )
    return tensor.contiguous()


def _cut_config(whole: PreTrainedConfig, depth: int, way: _Way) -> PreTrainedConfig:
    config = copy.deepcopy(whole)
    for name, value in list(vars(config).items()):
        if isinstance(value, (list, tuple)) and len(value) == depth and name != "architectures":
            setattr(config, name, value[: way.blocks])
    config.num_hidden_layers = way.blocks
    if way.untied:
        config.tie_last_hidden_states = False
    return config


def _changed_settings(meant: PreTrainedConfig, read: PreTrainedConfig) -> list[str]:
    """The settings that came out otherwise when a config was written and read again."""
    before, after = meant.to_dict(), read.to_dict()
    return sorted(name for name, value in before.items() if name in after and after[name] != value)


def _classes(source: PreTrainedModel, config: PreTrainedConfig) -> list[tuple[PreTrainedModel, Callable[[str], str]]]:
    """The empty model that is built when the folder is loaded, and its tensors' names in the source; none where that is
    a model of another class."""
    same = AutoModel.from_config(config)
    if type(same) is type(source):
        return [(same, lambda key: key)]
    with contextlib.suppress(ValueError):
        encoder = AutoModelForTextEncoding.from_config(config)
        embeddings, inner = source.get_input_embeddings(), "encoder."
        table = next((name for name, module in source.named_modules() if module is embeddings), "")
        if type(getattr(encoder, "encoder", None)) is type(source):
            return [(encoder, lambda key: key.removeprefix(inner) if key.startswith(inner) else f"{table}.weight")]
    return []


def _left_behind(model: LoadedModel, blocks: int, used: set[str]) -> list[str]:
    """Tensors of the source that the cut has no place for and that do not belong to a later block."""
    names = {module: name for name, module in model.model.named_modules()}
    later = tuple(f"{names[block]}." for block in model.parts.blocks[blocks:])
    return sorted(key for key in model.model.state_dict() if key not in used and not key.startswith(later))


def _fill_buffers(cut: nn.Module, source: nn.Module, named: Callable[[str], str]) -> None:
    """Buffers that are not saved (rotary frequencies) depend on the config alone: they are the source's."""
    own = dict(source.named_buffers())
    for name, buffer in list(cut.named_buffers()):
        if buffer.is_meta:
            where, _, leaf = name.rpartition(".")
            cut.get_submodule(where).register_buffer(leaf, own[named(name)], persistent=False)


def _probe(model: LoadedModel) -> Batch:
    """Two prompts, one of them padded."""
    config = model.model.config.get_text_config()  # type: ignore[union-attr,operator]
    ids = probe_ids(int(config.vocab_size), getattr(config, "pad_token_id", None), torch.device("cpu")).repeat(2, 1)
    lengths = torch.tensor([PROBE_TOKENS, PROBE_TOKENS - 2])
    mask = (torch.arange(PROBE_TOKENS) < lengths[:, None]).long()
    return Batch(ids.masked_fill(mask == 0, min(model.pad_id, int(config.vocab_size) - 1)), mask, lengths, (0, 1))


def _states(model: LoadedModel, batch: Batch, layer: int, readout: Readout) -> States:
    read: list[Tensor] = []

    def keep(_: int, states: States) -> None:
        read.append(read_out(model, layer, states, readout).float().cpu())

    capture(model, batch, keep, layers=(layer,))
    return read[0]


def _output(cut: PreTrainedModel, name: OutputName, batch: Batch) -> States:
    device = next(cut.parameters()).device
    inputs = {"input_ids": batch.input_ids.to(device), "attention_mask": batch.attention_mask.to(device)}
    with torch.no_grad():
        if isinstance(name, str):
            states: Tensor = cut(**inputs)[name]
        else:
            states = cut(**inputs, output_hidden_states=True)[name[0]][name[1]]
    return states.float().cpu()


def _error(wanted: States, got: States, batch: Batch) -> float:
    """Largest relative error of a real token's state."""
    if got.shape != wanted.shape:
        raise UnsupportedModelError(f"states {tuple(got.shape)} where {tuple(wanted.shape)} were expected")
    distance = (got - wanted).norm(dim=-1) / wanted.norm(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
    return float(distance[batch.attention_mask.bool()].max())
