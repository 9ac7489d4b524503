"""The model card: what the export is, how it was checked, what it saves, and why this layer."""

from __future__ import annotations

import importlib.metadata
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerscope.export.checking import MOST_ERROR
from layerscope.export.cutting import Cut
from layerscope.export.reasons import Reasons
from layerscope.export.spec import ExportSpec
from layerscope.export.speed import Speed
from layerscope.inputs.models import LoadedModel
from layerscope.wording import counted, in_markdown

_MEGABYTE = 1e6
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Export:
    """A written export.

    `context` is the longest text in tokens, None where there is no limit. `error` is the largest relative error of its
    vectors against our own; `rounding` what a half precision adds to that (None for float32); `size` and `whole_size` are
    bytes of weights in the export's precision, `dtype`.
    """

    path: Path
    layer: int
    blocks: int
    n_layers: int
    spec: ExportSpec
    context: int | None
    dtype: str
    error: float
    rounding: float | None
    n_texts: int
    size: int
    whole_size: int
    speed: Speed
    warnings: tuple[str, ...]


def model_card(made: Export, model: LoadedModel, cut: Cut, first_token: str | None, reasons: Reasons | None) -> str:
    """The README.md of an export, as Markdown.

    Args:
        made: the export.
        model: what it was cut from.
        cut: how it was cut.
        first_token: the token that does not count, where there is one.
        reasons: what a run says about the layer, where one was named.
    """
    base = in_markdown(_base(model.spec.name))
    parts = [
        _front(model),
        f"# {in_markdown(made.path.name)}: {base} up to layer {made.layer} of {made.n_layers}",
        _opening(made, model, base),
        _usage(made),
        "## What it is\n\n" + _table([("", ""), *_identity(made, model, base)]),
        "## Checked\n\n" + _checked(made),
        "## Size and speed\n\n" + _savings(made),
        "## Why this layer\n\n" + _why(made, reasons),
        "## Limits\n\n" + "\n".join(f"- {line}" for line in _limits(made, model, cut, first_token)),
    ]
    return "\n\n".join(parts) + "\n"


def _base(name: str) -> str:
    """The model's name; of a path on this machine its last part."""
    path = Path(name).expanduser()
    return path.name if path.exists() or path.is_absolute() else name


def _front(model: LoadedModel) -> str:
    lines = ["library_name: sentence-transformers", "pipeline_tag: sentence-similarity"]
    hub = _base(model.spec.name).partition("@")[0]
    if _HUB_ID.fullmatch(hub):
        lines.append(f"base_model: {hub}")
    tags = ("sentence-transformers", "feature-extraction", "sentence-similarity", "layerscope")
    return "\n".join(["---", *lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _opening(made: Export, model: LoadedModel, base: str) -> str:
    pooled = {"mean": "the mean, over a text's tokens,", "last": "the last token", "first": "the first token"}
    where = f"after block {made.layer} of {made.n_layers}"
    if not made.layer:
        where = f"before the first of its {made.n_layers} blocks"
    norm = ""
    if model.parts.final_norm is not None:
        normed = made.spec.readout == "normed"
        norm = ", put through the model's own final norm" if normed else ", without the model's final norm"
    return (
        f"A sentence embedding model: {pooled[made.spec.pooling]} of the states of {base} {where}{norm}. "
        "What comes after that is left out; nothing was trained further."
    )


def _usage(made: Export) -> str:
    prompted = [key for key in made.spec.prompts or {} if key != made.spec.default_prompt]
    lines = [
        "from sentence_transformers import SentenceTransformer",
        "",
        f"model = SentenceTransformer({made.path.name!r})",
        'vectors = model.encode(["The tide comes in twice a day.", "Rain."])',
        "model.similarity(vectors, vectors)",
    ]
    lines += [f"model.encode(texts, prompt_name={prompted[0]!r})"] if prompted else []
    return "\n".join(["```python", *lines, "```"])


def _identity(made: Export, model: LoadedModel, base: str) -> Iterator[tuple[str, str]]:
    spec = made.spec
    yield "base model", f"{base}, revision {in_markdown(model.revision)}"
    yield "layer", f"{made.layer} of {made.n_layers} (0 = embeddings)"
    yield "readout, positions, pooling", f"{spec.readout}, {spec.positions}, {spec.pooling}"
    yield "vectors", f"{model.dim} numbers{', length 1' if spec.normalize else ''}"
    yield "longest text", f"{made.context:,} tokens, longer ones are cut" if made.context else "no limit"
    yield "precision", made.dtype
    if model.spec.bidirectional:
        yield "attention", "to all tokens (the causal mask is lifted in config.json)"
    if model.spec.adapter is not None:
        yield "adapter", f"{in_markdown(_base(model.spec.adapter))}, merged into the weights"
    if model.spec.part is not None:
        yield "part", model.spec.part
    if spec.prompts:
        prompts = json.dumps(spec.prompts, ensure_ascii=False)
        yield "prompts", f"{in_markdown(prompts)}, default: {in_markdown(spec.default_prompt)}"
    names = ("layerscope", "sentence-transformers", "transformers")
    yield "made with", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def _checked(made: Export) -> str:
    text = (
        f"The written folder was loaded with SentenceTransformer and compared with the states that layerscope reads from "
        f"the whole model at layer {made.layer}: {made.n_texts} texts of different lengths, in padded batches. Largest "
        f"relative error: {made.error:.1e} (at most {MOST_ERROR:.0e} is allowed)."
    )
    if made.rounding is not None:
        text += (
            f" That is with the stored weights computed in float32. As {made.dtype} the vectors differ from those of the "
            f"float32 model by up to {made.rounding:.1e}."
        )
    return text


def _savings(made: Export) -> str:
    speed, share = made.speed, made.size / made.whole_size
    megabytes = [f"{size / _MEGABYTE:.1f}" for size in (made.size, made.whole_size)]
    seconds = [f"{time:.3f}" for time in (speed.export_seconds, speed.whole_seconds)]
    rows = [
        ("", "this model", "whole model", "ratio"),
        ("blocks", str(made.blocks), str(made.n_layers), ""),
        ("weights, MB", *megabytes, f"{share:.2f}"),
        ("encoding, s", *seconds, f"**{speed.ratio:.1f} times as fast**"),
    ]
    spread = f" ({speed.slowest:.1f} to {speed.fastest:.1f} in {speed.rounds} rounds)" if speed.rounds > 1 else ""
    return (
        f"{_table(rows)}\n\nBoth in {made.dtype}, the whole model without its language model head; {speed.n_texts} texts, "
        f"{speed.n_tokens:,} tokens, batches of {speed.batch_size}, on {speed.device} with "
        f"{counted(speed.threads, 'thread')}; in turn, ratio = median over rounds{spread}."
    )


def _why(made: Export, reasons: Reasons | None) -> str:
    if reasons is None:
        return "The layer was given; no run was named as evidence (`layerscope export --run`)."
    origin, words = reasons.picked.origin, reasons.words
    lines = [f"From the run {in_markdown(reasons.run)}: {in_markdown(words.answer)}"]
    if reasons.recommended not in (None, made.layer):
        lines.append(f"**Exported was layer {made.layer}, not the recommended layer {reasons.recommended}.**")
    lines += _scores(made, reasons)
    lines += ["\n".join(f"- {in_markdown(note)}" for note in words.notes)] if words.notes else []
    if origin.revision is None:
        lines.append("The scores were imported: nothing shows that they are of these weights.")
    if origin.dtype and origin.dtype != made.dtype:
        lines.append(f"The run was computed in {origin.dtype}, this model is {made.dtype}.")
    if made.spec.prefix and reasons.selection is not None:
        lines.append("The scores were taken without the default prompt.")
    return "\n\n".join(lines)


def _scores(made: Export, reasons: Reasons) -> list[str]:
    selection = reasons.selection
    if selection is None:
        return []
    named = {
        "this model": made.layer,
        "recommended": reasons.recommended,
        "best": selection.best,
        "last": made.n_layers,
    }
    rows = [("", "layer", "average score", "95 % interval", "may lose against the best", "cannot be told from it")]
    rows += [
        (name, str(layer), *_score_cells(reasons.score(layer))) for name, layer in named.items() if layer is not None
    ]
    tasks = selection.tasks
    like = "tasks like these" if len(tasks) > 1 else "this task"
    bound = f"may lose: at most so much, at one-sided 95 %, against the layer that is best for {like}"
    return [_table(rows), f"{counted(len(tasks), 'task')}: {', '.join(map(in_markdown, tasks))}; {bound}."]


def _score_cells(row: dict[str, Any] | None) -> tuple[str, str, str, str]:
    if row is None:
        return "not scored", "", "", ""
    low, high, lost = (row[name] if row[name] is not None else math.nan for name in ("ci_low", "ci_high", "most_lost"))
    return (
        f"{row['average']:.3f}",
        f"{low:.3f} to {high:.3f}" if math.isfinite(low) and math.isfinite(high) else "",
        f"{lost:.3f}" if math.isfinite(lost) else "unknown",
        {True: "yes", False: "no", None: "unknown"}[row["in_set"]],
    )


def _limits(made: Export, model: LoadedModel, cut: Cut, first_token: str | None) -> Iterator[str]:
    yield "The licence and the limits of the base model apply."
    if made.blocks > made.layer:
        yield (
            f"Block {made.blocks} is kept though nothing of it is read: this family shows the raw states of layer "
            f"{made.layer} only as the input of the next block. A normed export has no such block."
        )
    if first_token is not None:
        yield (
            f"The first token does not count. That is done by the weight 0 of {in_markdown(first_token)}, so where a text "
            "itself holds this token it does not count there either."
        )
    if not isinstance(cut.output, str):
        yield (
            "Raw states are read from `hidden_states`, so all layers that are left are held in memory during encoding, "
            "and older versions of the libraries refuse the folder."
        )
    yield "A text without any token cannot be encoded on its own where the tokenizer adds none."
    yield from (in_markdown(f"{note[0].upper()}{note[1:]}.") for note in model.warnings)


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *rest])
