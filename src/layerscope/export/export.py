"""export_layer(): from a model and a layer to a sentence-transformers folder that is proved equal and measured."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
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

Vectors = Float32[np.ndarray, "texts dim"]


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
    return _Work(loaded, spec, spec.layer, dtype, reasons).write(out, report)


class _Work:
    """One export."""

    def __init__(
        self, model: LoadedModel, spec: ExportSpec, layer: int, dtype: torch.dtype, reasons: Reasons | None
    ) -> None:
        self.model = model
        self.spec = spec
        self.layer = layer
        self.dtype = dtype
        self.reasons = reasons
        self.context = allowed_context(spec.context, model.context)
        self.tokenizer = export_tokenizer(model, self.context)
        self.texts = checking.check_texts(self.tokenizer, self.context)
        self.first_id = first_token_id(model, tuple(self.texts)) if spec.positions == "no-first" else None

    def write(self, out: Path, report: Report) -> Export:
        """Cut, write, check, measure, describe; then give the folder its name."""
        exact = ours = self._ours()
        if self.dtype != torch.float32:
            _round(self.model.model, self.dtype)
            ours = self._ours()
        cut = cut_model(self.model, self.layer, self.spec.readout)
        whole_size = _bytes(self.model.model, self.dtype)
        with whole_folder(out) as folder:
            report("writing", 0.0, 1.0)
            cut.model.to(self.dtype)
            write_folder(folder, cut, self.tokenizer, self.spec, dim=self.model.dim, first_id=self.first_id)
            size = _bytes(cut.model, self.dtype)
            report("writing", 1.0, 1.0)
            report("checking", 0.0, 1.0)
            error, rounding, opened = self._check(folder, exact, ours)
            report("checking", 1.0, 1.0)
            report("timing", 0.0, 1.0)
            self.model.model.to(self.dtype)
            speed = measure_speed(opened, self.model, speed_texts(self.texts), self.context)
            report("timing", 1.0, 1.0)
            made = Export(
                path=out,
                layer=self.layer,
                blocks=cut.blocks,
                n_layers=self.model.n_layers,
                spec=self.spec,
                context=self.context,
                dtype=str(self.dtype).removeprefix("torch."),
                error=error,
                rounding=rounding,
                n_texts=len(self.texts),
                size=size,
                whole_size=whole_size,
                speed=speed,
                warnings=(*self.model.warnings, *(self.reasons.picked.news if self.reasons else ())),
            )
            first = None if self.first_id is None else str(self.tokenizer.convert_ids_to_tokens(self.first_id))
            card = model_card(made, self.model, cut, first, self.reasons)
            (folder / "README.md").write_text(card, encoding="utf-8")
        return made

    def _ours(self) -> Vectors:
        return checking.our_vectors(self.model, self.texts, self.spec, self.layer, self.context)

    def _theirs(self, opened: Any) -> Vectors:  # noqa: ANN401
        tokens = tokenize([self.spec.prefix + text for text in self.texts], self.model.tokenizer, self.context)
        return checking.encode_apart(opened, self.texts, [self.model.lengths.longest(len(ids)) for ids in tokens])

    def _known_reasons(self) -> list[str]:
        standing = self.model.parts.standing
        if standing is None or not standing.switched:
            return []
        name = min(standing.switched, key=len)
        return [f"this family changes its {name} by the texts it has read, and outside layerscope nothing puts it back"]

    def _check(self, folder: Path, exact: Vectors, ours: Vectors) -> tuple[float, float | None, Any]:
        """The error in float32, what the stored precision adds, and the folder as anyone opens it."""
        device = self.model.device
        computed = checking.open_export(folder, device, torch.float32)
        checking.require_same_tokens(computed, self.tokenizer, self.texts, self.context)
        error = checking.require_equal(ours, self._theirs(computed), self.texts, *self._known_reasons())
        if self.dtype == torch.float32:
            return error, None, computed
        opened = checking.open_export(folder, device)
        if opened.dtype != self.dtype:
            raise UserError(
                f"{self.dtype} was asked for and the folder loads as {opened.dtype}: use another dtype for this family"
            )
        return error, float(checking.relative_error(exact, self._theirs(opened)).max()), opened


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
