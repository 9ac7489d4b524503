"""The model card: what the export is, how it was checked, what it saves, and why this layer."""

from __future__ import annotations

import importlib.metadata
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerscope.export.checking import MOST_ERROR
from layerscope.export.cutting import Cut
from layerscope.export.evidence import Evidence
from layerscope.export.spec import ExportSpec
from layerscope.export.speed import Speed
from layerscope.inputs.models import LoadedModel

_MEGABYTE = 1e6


@dataclass(frozen=True)
class Facts:
    """What a card is made of.

    `error` is the largest relative error of the check; `rounding` that of the export in its own precision against the
    float32 model, None where it is float32 itself. Sizes are of the weights, in bytes, in the export's precision.
    """

    model: LoadedModel
    spec: ExportSpec
    cut: Cut
    layer: int
    context: int | None
    dtype: str
    first_token: str | None
    error: float
    rounding: float | None
    n_texts: int
    size: int
    whole_size: int
    speed: Speed
    evidence: Evidence | None

    @property
    def last(self) -> int:
        """The last layer of the whole model."""
        return self.model.n_layers


def model_card(facts: Facts, name: str) -> str:
    """The README.md of an export called `name`, as Markdown."""
    base = _base(facts.model.spec.name)
    title = f"# {name}: {base} up to layer {facts.layer} of {facts.last}"
    parts = [
        _front(facts),
        title,
        _opening(facts, base),
        _usage(name, facts.spec),
        "## What it is\n\n" + _table(_identity(facts, base)),
        "## Checked\n\n" + _checked(facts),
        "## Size and speed\n\n" + _savings(facts),
        "## Why this layer\n\n" + _why(facts),
        "## Limits\n\n" + "\n".join(f"- {line}" for line in _limits(facts)),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _base(name: str) -> str:
    """The model's name; of a path on this machine its last part."""
    path = Path(name).expanduser()
    return path.name if path.exists() or path.is_absolute() else name


def _front(facts: Facts) -> str:
    lines = ["library_name: sentence-transformers", "pipeline_tag: sentence-similarity"]
    hub = _base(facts.model.spec.name).partition("@")[0]
    if "/" in hub:
        lines.append(f"base_model: {hub}")
    tags = ("sentence-transformers", "feature-extraction", "sentence-similarity", "layerscope")
    return "\n".join(["---", *lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _opening(facts: Facts, base: str) -> str:
    pooled = {"mean": "the mean, over a text's tokens,", "last": "the last token", "first": "the first token"}
    where = (
        f"after block {facts.layer} of {facts.last}" if facts.layer else f"before the first of its {facts.last} blocks"
    )
    norm = ""
    if facts.model.parts.final_norm is not None:
        normed = facts.spec.readout == "normed"
        norm = ", put through the model's own final norm" if normed else ", without the model's final norm"
    return (
        f"A sentence embedding model: {pooled[facts.spec.pooling]} of the states of {base} {where}{norm}. "
        "What comes after that is left out; nothing was trained further."
    )


def _usage(name: str, spec: ExportSpec) -> str:
    prompted = [key for key in spec.prompts or {} if key != spec.default_prompt]
    lines = [
        "from sentence_transformers import SentenceTransformer",
        "",
        f"model = SentenceTransformer({name!r})",
        'vectors = model.encode(["The tide comes in twice a day.", "Rain."])',
        "model.similarity(vectors, vectors)",
    ]
    lines += [f"model.encode(texts, prompt_name={prompted[0]!r})"] if prompted else []
    return "\n".join(["```python", *lines, "```"])


def _identity(facts: Facts, base: str) -> list[tuple[str, str]]:
    spec, model = facts.spec, facts.model
    rows = [
        ("base model", f"{base}, revision {model.revision}"),
        ("layer", f"{facts.layer} of {facts.last} (0 = embeddings)"),
        ("readout, positions, pooling", f"{spec.readout}, {spec.positions}, {spec.pooling}"),
        ("vectors", f"{model.dim} numbers{', length 1' if spec.normalize else ''}"),
        ("longest text", f"{facts.context:,} tokens, longer ones are cut" if facts.context else "no limit"),
        ("precision", facts.dtype),
    ]
    if model.spec.bidirectional:
        rows.append(("attention", "to all tokens (the causal mask is lifted in config.json)"))
    if model.spec.adapter is not None:
        rows.append(("adapter", f"{_base(model.spec.adapter)}, merged into the weights"))
    if model.spec.part is not None:
        rows.append(("part", model.spec.part))
    if spec.prompts:
        rows.append(("prompts", f"`{json.dumps(spec.prompts, ensure_ascii=False)}`, default: {spec.default_prompt}"))
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("sentence-transformers", "transformers")]
    rows.append(("made with", ", ".join([f"layerscope {importlib.metadata.version('layerscope')}", *versions])))
    return rows


def _checked(facts: Facts) -> str:
    text = (
        f"The written folder was loaded with SentenceTransformer and compared with the states that layerscope reads from "
        f"the whole model at layer {facts.layer}: {facts.n_texts} texts of different lengths, in padded batches. Largest "
        f"relative error: {facts.error:.1e} (at most {MOST_ERROR:.0e} is allowed)."
    )
    if facts.rounding is not None:
        text += (
            f" That is with the stored weights computed in float32. As {facts.dtype} the vectors differ from those of the "
            f"float32 model by up to {facts.rounding:.1e}."
        )
    return text


def _savings(facts: Facts) -> str:
    speed = facts.speed
    rows = [
        ("", "this model", "whole model", "ratio"),
        ("blocks", str(facts.cut.blocks), str(facts.last), ""),
        (
            "weights, MB",
            f"{facts.size / _MEGABYTE:.1f}",
            f"{facts.whole_size / _MEGABYTE:.1f}",
            f"{facts.size / facts.whole_size:.2f}",
        ),
        (
            "encoding, s",
            f"{speed.export_seconds:.3f}",
            f"{speed.whole_seconds:.3f}",
            f"**{speed.ratio:.1f} times as fast**",
        ),
    ]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---|---|---|---|")
    spread = f" ({speed.slowest:.1f} to {speed.fastest:.1f} in {speed.rounds} rounds)" if speed.rounds > 1 else ""
    return (
        "\n".join(lines)
        + f"\n\nBoth in {facts.dtype}, the whole model without its language model head; {speed.n_texts} texts, "
        f"{speed.n_tokens:,} tokens, batches of {speed.batch_size}, on {speed.device} with {speed.threads} "
        f"thread{'s' if speed.threads > 1 else ''}; in "
        f"turn, ratio = median over rounds{spread}."
    )


def _why(facts: Facts) -> str:
    evidence = facts.evidence
    if evidence is None:
        return "The layer was given; no run was named as evidence (`layerscope export --run`)."
    lines = [f"From the run `{evidence.run}`: {evidence.picked.answer}"]
    if evidence.recommended is not None and evidence.recommended != facts.layer:
        lines.append(f"**Exported was layer {facts.layer}, not the recommended layer {evidence.recommended}.**")
    if evidence.selection is not None:
        lines += _scores(facts, evidence)
    by_scores = evidence.selection is not None and evidence.picked.by == "scores"
    notes = evidence.selection.notes if evidence.selection is not None and by_scores else evidence.picked.notes
    lines += ["\n".join(f"- {note}" for note in notes)] if notes else []
    if evidence.revision is None:
        lines.append("The scores were imported: nothing shows that they are of these weights.")
    if evidence.dtype and evidence.dtype != facts.dtype:
        lines.append(f"The run was computed in {evidence.dtype}, this model is {facts.dtype}.")
    if facts.spec.prefix and evidence.selection is not None:
        lines.append("The scores were taken without the default prompt.")
    return "\n\n".join(lines)


def _scores(facts: Facts, evidence: Evidence) -> list[str]:
    selection = evidence.selection
    if selection is None:
        return []
    named = {
        "this model": facts.layer,
        "recommended": evidence.recommended,
        "best": selection.best,
        "last": facts.last,
    }
    rows = [("", "layer", "average score", "95 % interval", "may lose against the best", "cannot be told from it")]
    for name, layer in named.items():
        if layer is not None:
            rows.append((name, str(layer), *_score_cells(evidence.score(layer))))
    table = ["| " + " | ".join(row) + " |" for row in rows]
    table.insert(1, "|---|---|---|---|---|---|")
    tasks = selection.scores.tasks
    like = "tasks like these" if len(tasks) > 1 else "this task"
    bound = f"may lose: at most so much, at one-sided 95 %, against the layer that is best for {like}"
    about = f"{len(tasks)} task{'s' if len(tasks) > 1 else ''}: {', '.join(tasks)}; {bound}."
    return ["\n".join(table), about]


def _score_cells(row: dict[str, Any] | None) -> tuple[str, str, str, str]:
    if row is None:
        return "not scored", "", "", ""
    low, high = row["ci_low"], row["ci_high"]
    known = all(isinstance(end, float) and math.isfinite(end) for end in (low, high))
    told = {True: "yes", False: "no", None: "unknown"}[row["in_set"]]
    lost = row["most_lost"]
    loss = f"{lost:.3f}" if lost is not None and math.isfinite(lost) else "unknown"
    return f"{row['average']:.3f}", f"{low:.3f} to {high:.3f}" if known else "", loss, told


def _limits(facts: Facts) -> list[str]:
    lines = ["The licence and the limits of the base model apply."]
    if facts.cut.blocks > facts.layer:
        lines.append(
            f"Block {facts.cut.blocks} is kept though nothing of it is read: this family shows the raw states of layer "
            f"{facts.layer} only as the input of the next block. A normed export has no such block."
        )
    if facts.first_token is not None:
        lines.append(
            f"The first token does not count. That is done by the weight 0 of `{facts.first_token}`, so where a text "
            "itself holds this token it does not count there either."
        )
    if not isinstance(facts.cut.output, str):
        lines.append(
            "Raw states are read from `hidden_states`, so all layers that are left are held in memory during encoding, "
            "and older versions of the libraries refuse the folder."
        )
    lines.append("A text without any token cannot be encoded on its own where the tokenizer adds none.")
    lines += [f"{note[0].upper()}{note[1:]}." for note in facts.model.warnings]
    return lines


def _table(rows: list[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
