"""One model type through the program: loaded, measured, encoded, exported, each compared with plain transformers."""

from __future__ import annotations

import inspect
import math
import random
import re
import shutil
import string
import tempfile
import traceback
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from layerscope.errors import LayerscopeError

MOST = 1e-4
"""Largest relative error of a prompt's states or vector."""
_LENGTHS = (60, 33, 17, 9, 8, 4, 2, 1)
_FOREIGN = re.compile(
    r"(unexpected keyword|must match the size|size of tensor|shapes cannot be multiplied|"
    r"not subscriptable|positional argument|index out of range|Traceback|NoneType|object has no attribute|"
    r"Unrecognized configuration|cannot be broadcast|is not iterable|Expected .* but got|division by zero|"
    r"invalid for input|out of bounds|failed \()"
)
"""Words of other libraries in what should be ours."""
_QUOTED = re.compile(r"\(its own code says: .*\)")


@dataclass
class Outcome:
    """What became of one model type; `part` is the stack of an encoder-decoder."""

    model_type: str
    part: str | None = None
    result: str = ""
    """right, refused, not text, not made, wrong, crashed"""
    reason: str = ""
    export: str = ""
    """The same of the export: right, or refused and why."""
    notes: list[str] = field(default_factory=list)
    errors: dict[str, float] = field(default_factory=dict)


def check_type(model_type: str) -> list[dict[str, Any]]:
    """The outcomes of a model type: one, or one a stack."""
    from tests.sweep import tiny

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp(prefix="sweep-"))
    try:
        try:
            if text_class(model_type) is None:
                return [asdict(_not_read(model_type, folder))]
            config = tiny.tiny_config(model_type)
            model = tiny.tiny_model(config)
        except Exception as error:  # noqa: BLE001  (a class raises what it likes about a config)
            return [asdict(Outcome(model_type, result="not made", reason=_why_not_made(error)))]
        parts = ("encoder", "decoder") if getattr(config, "is_encoder_decoder", False) else (None,)
        _save(model, folder / "model")
        return [asdict(_checked(Outcome(model_type, part), model, folder)) for part in parts]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def text_class(model_type: str) -> type[Any] | None:
    """The class that AutoModel makes, if it says that it reads text."""
    from tests.sweep import tiny
    from transformers import CONFIG_MAPPING

    found = tiny.model_class(CONFIG_MAPPING[model_type]())
    if found is None:
        return None
    kinds = found.input_modalities
    kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    return found if "text" in kinds and "input_ids" in inspect.signature(found.forward).parameters else None


def _not_read(model_type: str, folder: Path) -> Outcome:
    """A type that reads no text must be refused by its config alone: there are no weights here."""
    from safetensors.torch import save_file
    from tests.sweep import tiny
    from transformers import CONFIG_MAPPING

    from layerscope.config import ModelSpec
    from layerscope.inputs.models import load_model

    CONFIG_MAPPING[model_type]().save_pretrained(folder)
    save_file({"nothing": torch.zeros(1)}, folder / "model.safetensors")
    tiny.save_tokenizer(folder)
    outcome = Outcome(model_type)
    try:
        load_model(ModelSpec(name=str(folder)))
    except LayerscopeError as error:
        outcome.result, outcome.reason = "not text", _words(error, folder)
        return _judged(outcome)
    except Exception as error:  # noqa: BLE001
        outcome.result, outcome.reason = "crashed", _last(error)
        return outcome
    outcome.result, outcome.reason = "wrong", "loaded without weights"
    return outcome


def _save(model: Any, folder: Path) -> None:
    from tests.sweep import tiny

    from layerscope.inputs.quiet import quiet_libraries

    with quiet_libraries():
        model.save_pretrained(folder)
    tiny.save_tokenizer(folder)


def _checked(outcome: Outcome, model: Any, folder: Path) -> Outcome:
    try:
        _check(outcome, model, folder)
        outcome.result = outcome.result or "right"
    except LayerscopeError as error:
        outcome.result, outcome.reason = "refused", _words(error, folder)
    except Exception as error:  # noqa: BLE001  (that is what is looked for)
        outcome.result, outcome.reason = "crashed", _last(error)
    return _judged(outcome)


def _judged(outcome: Outcome) -> Outcome:
    for name in ("reason", "export"):
        text = getattr(outcome, name)
        if outcome.result in {"refused", "not text"} or name == "export":
            found = _FOREIGN.search(_QUOTED.sub("", text))
            if found:
                outcome.result = "wrong"
                setattr(outcome, name, f"says {found.group(0)!r}: {text}")
    return outcome


def _check(outcome: Outcome, model: Any, folder: Path) -> None:
    from tests.sweep.plain import difference, expected_layers, plain_states

    from layerscope.config import ModelSpec
    from layerscope.inputs.models import load_model
    from layerscope.states.batches import Batch, make_batches
    from layerscope.states.capture import capture

    spec = ModelSpec(name=str(folder / "model"), part=outcome.part)  # type: ignore[arg-type]
    loaded = load_model(spec)
    texts, prompts = _prompts(folder / "model", loaded.context)
    plain = [plain_states(model, ids, outcome.part) for ids in prompts]

    states: list[list[torch.Tensor]] = [[] for _ in prompts]
    for batch in make_batches(prompts, 100_000, loaded.pad_id, lengths=loaded.lengths):

        def read(_: int, layer: torch.Tensor, batch: Batch = batch) -> None:
            for place, row in enumerate(batch.rows):
                states[row].append(layer[place, : len(prompts[row])].clone())

        capture(loaded, batch, read)
    expected = []
    for ours, theirs in zip(states, plain, strict=True):
        wanted, how = expected_layers(theirs, ours)
        expected.append(wanted)
        if how not in outcome.notes:
            outcome.notes.append(how)
        for layer, (a, b) in enumerate(zip(ours, wanted, strict=True)):
            if b is not None:
                _require(outcome, f"states, layer {layer}", difference(a, b))
    if not all(bool(torch.isfinite(state).all()) for state in plain[0].tuple_):
        raise ArithmeticError("the tiny model's own states are not finite")
    _check_run(outcome, spec, folder, texts, expected)
    _check_tasks(outcome, loaded, folder, texts, plain)
    _check_export(outcome, loaded, folder, texts, (plain, expected))


def _prompts(folder: Path, context: int | None) -> tuple[list[str], list[list[int]]]:
    """Texts of different lengths, and their ids as anyone's tokenizer gives them."""
    from transformers import AutoTokenizer

    draw = random.Random(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = ["".join(draw.choice(string.ascii_letters) for _ in range(length)) for length in _LENGTHS]
    pairs = [(text, tokenizer(text)["input_ids"]) for text in texts]
    kept = [(text, ids) for text, ids in pairs if ids and (context is None or len(ids) <= context)]
    if len(kept) < len(texts) // 2:
        raise ValueError(
            f"only {len(kept)} of {len(texts)} texts can be read: lengths {[len(ids) for _, ids in pairs]}"
        )
    return [text for text, _ in kept], [list(ids) for _, ids in kept]


def _require(outcome: Outcome, what: str, error: float) -> None:
    outcome.errors[what] = max(outcome.errors.get(what, 0.0), error)
    if not error <= MOST:
        outcome.result = "wrong"
        if what not in outcome.reason:
            outcome.reason = f"{outcome.reason}; {what}: {error:.1g}".strip("; ")


def _check_run(outcome: Outcome, spec: Any, folder: Path, texts: list[str], expected: list[list[Any]]) -> None:
    from layerscope.config import TextSpec
    from layerscope.measuring.measure import measure

    path = folder / "texts.txt"
    path.write_text("\n".join(texts) + "\n")
    run = measure(
        spec,
        TextSpec(source=str(path), n=None),
        out=folder / f"run-{outcome.part}",
        metrics="prompt_entropy,curvature,effective_rank,norm_ratio,dataset_entropy",
        resamples=100,
        keep_pooled=True,
        block_size=5,
    )
    rows = run.prompts.filter((run.prompts["metric"] == "prompt_entropy") & (run.prompts["normalization"] == "none"))
    order = (folder / f"run-{outcome.part}" / "pooled" / "prompt_ids.txt").read_text().split("\n")[: len(texts)]
    positions = {name: place for place, name in enumerate(order)}
    if len(positions) != len(texts):
        raise AssertionError(f"{len(positions)} prompts measured of {len(texts)}")
    # Ids of a text file end in the line's number.
    by_row = sorted(order, key=lambda name: int(re.findall(r"\d+", name)[-1]))
    for layer in range(len(expected[0])):
        pooled = run.pooled(layer)
        entropies = dict(rows.filter(rows["layer"] == layer).select("prompt_id", "value").iter_rows())
        for row, name in enumerate(by_row):
            wanted = expected[row][layer]
            if wanted is None:
                continue
            vector = wanted.double().mean(0).numpy()
            _require(outcome, f"measured vector, layer {layer}", _distance(pooled[positions[name]], vector, wanted))
            if len(wanted) > 1:
                entropy = _entropy(wanted)
                _require(outcome, f"entropy, layer {layer}", 0.02 * abs(entropies[name] - entropy))


def _entropy(states: torch.Tensor) -> float:
    gram = states.double() @ states.double().T
    values = torch.linalg.eigvalsh(gram / gram.trace()).clamp_min(1e-300)
    return float(-(values * values.log()).sum())


def _distance(ours: Any, wanted: np.ndarray, states: torch.Tensor) -> float:
    """Relative to the states: their mean may be near zero."""
    size = max(float(np.linalg.norm(wanted)), 0.1 * float(states.norm(dim=1).mean()), 1e-30)
    error = float(np.linalg.norm(np.asarray(ours, np.float64) - wanted)) / size
    return error if math.isfinite(error) else math.inf


def _normed(plain: Any, state: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return state if plain.norm is None else plain.norm(state[None])[0]


def _check_tasks(outcome: Outcome, loaded: Any, folder: Path, texts: list[str], plain: list[Any]) -> None:
    from layerscope.states.state import State
    from layerscope.tasks.encoding import TextEncoder
    from layerscope.tasks.spec import TasksSpec

    last = loaded.n_layers
    spec = TasksSpec(tasks=("x",), cache=str(folder / f"cache-{outcome.part}"), batch_tokens=128)
    encoder = TextEncoder(loaded, spec, (last,))
    encoder.fill(texts)
    found = encoder.caches[State("normed", "all")].read(texts, last)
    for row, theirs in enumerate(plain):
        _require(outcome, "encoded, last layer", _distance(found[row], theirs.top.double().mean(0).numpy(), theirs.top))


def _check_export(outcome: Outcome, loaded: Any, folder: Path, texts: list[str], given: tuple[Any, Any]) -> None:
    plain, expected = given
    layer = max(1, loaded.n_layers - 1)
    readouts = ["normed", "raw"] if loaded.parts.final_norm is not None else ["normed"]
    said: list[str] = []
    for readout in readouts:
        out = folder / f"export-{outcome.part}-{readout}"
        try:
            vectors = _exported(loaded.spec, layer, readout, out, texts)
        except LayerscopeError as error:
            said.append(f"{readout} refused: {_words(error, folder)}")
            continue
        except Exception as error:  # noqa: BLE001
            outcome.result = "crashed"
            said.append(f"{readout} crashed: {_last(error)}")
            continue
        for row, theirs in enumerate(plain):
            state = expected[row][layer]
            if state is None:
                raise LookupError(f"no state of layer {layer} to compare the export with")
            state = _normed(theirs, state) if readout == "normed" else state
            error = _distance(vectors[row], state.double().mean(0).numpy(), state)
            _require(outcome, f"export, {readout}", error)
        said.append(f"{readout} right")
    outcome.export = "right" if all(each.endswith(" right") for each in said) else "; ".join(said)


def _exported(spec: Any, layer: int, readout: str, out: Path, texts: list[str]) -> Any:
    from layerscope.export import speed
    from layerscope.export.export import export_layer
    from layerscope.inputs.quiet import quiet_libraries

    speed._ROUNDS, speed._TEXTS = 1, 2
    export_layer(spec, layer, out=out, readout=readout)
    with quiet_libraries():
        from sentence_transformers import SentenceTransformer

        opened = SentenceTransformer(str(out), device="cpu", local_files_only=True)
        return np.stack([opened.encode([text], show_progress_bar=False)[0] for text in texts])


def _words(error: BaseException, folder: Path) -> str:
    return str(error).replace(str(folder), "DIR")


def _why_not_made(error: BaseException) -> str:
    package = re.search(r"requires the (\w+) library", str(error))
    if package:
        return f"the package {package.group(1)} is not installed"
    return f"transformers does not make it of its own config: {' '.join(str(error).split())[:160]}"


def _last(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "layerscope" in frame.filename or "sweep" in frame.filename]
    at = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in (frames[-1], *own[-1:]))
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]} ({at})"
