"""export_layer(): from a model and a layer to a sentence-transformers folder that is proved equal and measured."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import nn

from layerscope.config import ModelSpec
from layerscope.errors import UserError, missing_package
from layerscope.export import checking
from layerscope.export.card import Export, model_card
from layerscope.export.choice import export_tokenizer, first_token_id, refuse_choice, refuse_model
from layerscope.export.cutting import cut_model
from layerscope.export.folder import refuse_folder, whole_folder, write_folder
from layerscope.export.reasons import Reasons, read_choice, require_same_model
from layerscope.export.spec import ExportSpec
from layerscope.export.speed import measure_speed, speed_texts
from layerscope.inputs.models import LoadedModel, load_model
from layerscope.inputs.processor import choose_device, choose_dtype
from layerscope.inputs.prompts import allowed_context, tokenize
from layerscope.measuring.progress import Report, silent


def export_layer(
    model: str | ModelSpec,
    layer: int | None = None,
    *,
    out: str | Path,
    run: str | Path | None = None,
    report: Report = silent,
    **options: object,
) -> Export:
    """Write a layer as a sentence-transformers model: `SentenceTransformer(out)` loads it, with no code of ours.

    The folder appears only after it was loaded again and gave our own vectors to a relative error of 1e-5.

    Args:
        model: a model name (see `layerscope models`), hub id, folder or .gguf file, or a ModelSpec. Its dtype is the
            precision that the export is stored in.
        layer: 0 (embeddings) to the number of blocks; with `run` it defaults to the recommended one.
        out: the folder to write; it must not exist, or be empty.
        run: a folder of `layerscope tasks` or `measure`: evidence for the model card, and what is not given here.
        report: called with (stage, done, total) as the work proceeds.
        **options: the other fields of ExportSpec: readout, positions, pooling, context, normalize, prompts, ...

    Returns:
        Where it is, how equal, how small, how fast.

    Raises:
        UserError: something asked for does not exist or cannot be expressed as such a folder; the message says why.
        UnsupportedModelError: the family cannot be cut there, or the written folder does not give the same vectors.
        RunFailedError: the disk is full, or the weights hold NaN.
    """
    spec = ExportSpec.of(options if layer is None else {"layer": layer, **options})
    known = ModelSpec(name=model) if isinstance(model, str) else model
    return export_spec(known, spec, Path(out), run=None if run is None else Path(run), report=report)


def export_spec(
    model: ModelSpec, spec: ExportSpec, out: Path, *, run: Path | None = None, report: Report = silent
) -> Export:
    """`export_layer` for specs that are ready. Raises what `export_layer` raises."""
    if importlib.util.find_spec("sentence_transformers") is None:
        raise missing_package("sentence-transformers", "`layerscope export`")
    refuse_choice(spec)
    refuse_folder(out)
    reasons = None
    if run is not None:
        spec, reasons = read_choice(run, spec)
        refuse_choice(spec)
    if spec.layer is None:
        raise UserError("no layer: say which with --layer, or name a run that recommends one with --run")
    report("loading the model", 0.0, 1.0)
    dtype = choose_dtype(model.dtype, choose_device(model.device))
    # Everything is compared in float32; a half precision is a rounding of the weights on top of it.
    loaded = load_model(model.model_copy(update={"dtype": "float32", "fast_matmul": False}))
    report("loading the model", 1.0, 1.0)
    if spec.layer > loaded.n_layers:
        raise UserError(f"layer {spec.layer} does not exist: {model.name} has layers 0 to {loaded.n_layers}")
    refuse_model(loaded)
    if reasons is not None:
        require_same_model(reasons, loaded)
    return _write(loaded, spec, dtype, reasons, out, report)


def _write(
    model: LoadedModel, spec: ExportSpec, dtype: torch.dtype, reasons: Reasons | None, out: Path, report: Report
) -> Export:
    """Cut, write, check, measure, describe; then give the folder its name."""
    assert spec.layer is not None
    context = allowed_context(spec.context, model.context)
    tokenizer = export_tokenizer(model, context)
    texts = checking.check_texts(tokenizer, context)
    first_id = first_token_id(model, tuple(texts)) if spec.positions == "no-first" else None
    tokens = tokenize([spec.prefix + text for text in texts], model.tokenizer, context)
    ranges = [model.lengths.longest(len(ids)) for ids in tokens]
    exact = ours = checking.our_vectors(model, tokens, spec)
    if dtype != torch.float32:
        _round(model.model, dtype)
        ours = checking.our_vectors(model, tokens, spec)
    cut = cut_model(model, spec.layer, spec.readout)
    whole_size = _bytes(model.model, dtype)
    with whole_folder(out) as folder:
        report("writing", 0.0, 1.0)
        cut.model.to(dtype)
        write_folder(folder, cut, tokenizer, spec, dim=model.dim, first_id=first_id)
        report("writing", 1.0, 1.0)
        report("checking", 0.0, 1.0)
        opened = checking.open_export(folder, model.device, torch.float32)
        checking.require_same_tokens(opened, tokenizer, texts, context)
        error = checking.require_equal(
            ours, checking.encode_apart(opened, texts, ranges), texts, *_known_reasons(model)
        )
        rounding = None
        if dtype != torch.float32:
            opened = checking.open_export(folder, model.device)
            if opened.dtype != dtype:
                raise UserError(
                    f"{dtype} was asked for and the folder loads as {opened.dtype}: use another dtype for this family"
                )
            rounding = float(checking.relative_error(exact, checking.encode_apart(opened, texts, ranges)).max())
        report("checking", 1.0, 1.0)
        report("timing", 0.0, 1.0)
        model.model.to(dtype)
        speed = measure_speed(opened, model, speed_texts(texts), context)
        report("timing", 1.0, 1.0)
        made = Export(
            path=out,
            layer=spec.layer,
            blocks=cut.blocks,
            n_layers=model.n_layers,
            spec=spec,
            context=context,
            dtype=str(dtype).removeprefix("torch."),
            error=error,
            rounding=rounding,
            n_texts=len(texts),
            size=_bytes(cut.model, dtype),
            whole_size=whole_size,
            speed=speed,
            warnings=(*model.warnings, *(reasons.picked.news if reasons else ())),
        )
        first = None if first_id is None else str(tokenizer.convert_ids_to_tokens(first_id))
        (folder / "README.md").write_text(model_card(made, model, cut, first, reasons), encoding="utf-8")
    return made


def _known_reasons(model: LoadedModel) -> list[str]:
    standing = model.parts.standing
    if standing is None or not standing.switched:
        return []
    name = min(standing.switched, key=len)
    return [f"this family changes its {name} by the texts it has read, and outside layerscope nothing puts it back"]


def _round(model: nn.Module, dtype: torch.dtype) -> None:
    """Give the weights the values they have in `dtype`, still computed with in float32."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.copy_(parameter.to(dtype))


def _bytes(model: nn.Module, dtype: torch.dtype) -> int:
    """The size of a model's weights, each once, as saved in `dtype`."""
    found = {tensor.data_ptr(): tensor for tensor in model.state_dict().values()}
    return sum(
        tensor.numel() * (dtype.itemsize if tensor.is_floating_point() else tensor.element_size())
        for tensor in found.values()
    )
