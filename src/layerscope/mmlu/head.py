"""The next-token head of a language model, for states that a headless model gave."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig

from layerscope.errors import UnsupportedModelError
from layerscope.inputs.attention import first_token_sees_last
from layerscope.inputs.checkpoints import find_checkpoint
from layerscope.inputs.known_models import KNOWN_MODELS
from layerscope.inputs.models import LoadedModel
from layerscope.inputs.parts import probe_ids
from layerscope.inputs.quiet import quiet_libraries, quiet_stderr
from layerscope.inputs.weights import check_finite


@dataclass(frozen=True)
class Head:
    """A model class with its head and, in place of everything before the head, states that are given."""

    model: nn.Module
    states: _Given

    def log_probabilities(self, states: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows vocabulary"]:
        """Log-probabilities of the next token, in float32.

        Args:
            states: states of the last layer after the final norm, one row a position.

        Returns:
            Nats in (-inf, 0]; the exponentials of a row sum to 1.
        """
        weight = next(self.model.parameters())
        self.states.given.states = states.to(weight.device, torch.float32)[:, None]
        with torch.no_grad():
            # Every class has its own scaling, capping and bias after the matrix: its own forward knows them.
            logits: Tensor = self.model(input_ids=torch.zeros(len(states), 1, dtype=torch.long)).logits
        if self.states.given.states is not None:
            raise UnsupportedModelError(
                f"answers need the head of {type(self.model).__name__}, and it does not read the states it is given: "
                "measure this family without questions"
            )
        return logits[:, -1].float().log_softmax(-1)


def load_head(model: LoadedModel) -> Head:
    """The head that belongs to a model.

    It is loaded in float32, whatever the model runs in: letters differ by less than bfloat16 can tell apart.

    Raises:
        UnsupportedModelError: the model is no causal language model, or its checkpoint holds no head.
    """
    spec = model.spec
    if spec.part is not None or spec.bidirectional:
        asked = f"part={spec.part}" if spec.part is not None else "bidirectional"
        raise UnsupportedModelError(f"answers need a causal language model, {asked} is none: leave it out")
    if first_token_sees_last(model.model, model.parts, probe_ids(model.vocab, None, model.device)):
        raise UnsupportedModelError(
            f"answers need a causal language model, and in {spec.name!r} the first token sees the last one: give a decoder"
        )
    with quiet_libraries(), quiet_stderr(), torch.random.fork_rng(devices=[]):
        try:
            whole = _with_head(model, 0)
        except (ZeroDivisionError, IndexError):
            # Some classes divide by their depth, or look at their first block.
            whole = _with_head(model, 1)
    name = _headless_name(whole, model)
    given = _Given(whole.get_submodule(name))
    whole.set_submodule(name, given)
    check_finite(whole, f"{spec.name}'s head")
    return Head(whole.to(model.device).eval().requires_grad_(False), given)


class _Given(nn.Module):
    """Stands where a model's blocks were and returns the states in `given`, once, to the thread that gave them."""

    def __init__(self, headless: nn.Module) -> None:
        super().__init__()
        self.given = threading.local()
        # Some heads read a factor off the model (Falcon-H1's lm_head_multiplier).
        for name, value in vars(headless).items():
            if not name.startswith("_") and isinstance(value, (bool, int, float, str, PreTrainedConfig)):
                setattr(self, name, value)

    @property
    def decoder(self) -> _Given:
        """Some classes call their model's decoder instead of the model."""
        return self

    def forward(self, *_: object, **__: object) -> _Output:
        """The states given, whatever the input."""
        given, self.given.states = self.given.states, None
        return _Output(given)


class _Output:
    """What a headless model returns, with nothing but the last states in it."""

    def __init__(self, states: Tensor | None) -> None:
        self.last_hidden_state = states

    def __getitem__(self, index: object) -> object:
        return self.last_hidden_state if index == 0 else ()

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def _with_head(model: LoadedModel, blocks: int) -> Any:  # noqa: ANN401
    """The class with the head, of a config with so many blocks: with none or one, no weights are loaded twice."""
    from transformers import AutoModelForCausalLM

    spec, checkpoint = model.spec, find_checkpoint(model.spec)
    options = checkpoint.loading(spec, torch.float32) | {"device_map": None}
    config: Any = copy.deepcopy(model.model.config)
    for name, value in config.to_dict().items():
        # Lists with an entry a block are checked against the number of blocks.
        if isinstance(value, (list, tuple)) and len(value) == config.num_hidden_layers:
            setattr(config, name, list(value[:blocks]))
    config.num_hidden_layers = blocks
    try:
        whole, info = AutoModelForCausalLM.from_pretrained(checkpoint.source, config=config, **options)
        known = KNOWN_MODELS.get(spec.name)
        file = Path(spec.name).expanduser() if known is None else known.locate()
        if _lacks_head(whole, model, info) and file.suffix == ".gguf":
            # The converted folder holds no head. Where it is not the embeddings, it is read from the file itself.
            whole, info = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise UnsupportedModelError(f"{spec.name!r} does not load as a causal language model: {text}") from error
    if _lacks_head(whole, model, info):
        raise UnsupportedModelError(
            f"answers need a language model's head, and the checkpoint of {spec.name!r} holds none: give the checkpoint "
            "that the model was published as"
        )
    return whole


def _headless_name(whole: nn.Module, model: LoadedModel) -> str:
    """Where the headless model is in the model with the head; its prefix does not always say (Llama 4)."""
    name: str | None = next((name for name, part in whole.named_modules() if type(part) is type(model.model)), None)
    if not name:
        raise UnsupportedModelError(
            f"answers need a model with a head over a {type(model.model).__name__}, got {type(whole).__name__}: measure "
            "this family without questions"
        )
    return name


def _lacks_head(whole: nn.Module, model: LoadedModel, info: Mapping[str, Any]) -> bool:
    inside = f"{_headless_name(whole, model)}."
    return not all(name.startswith(inside) for name, _ in whole.named_parameters() if name in info["missing_keys"])
