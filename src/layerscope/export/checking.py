"""The proof: the written folder, loaded as anyone loads it, gives our own vectors."""

from __future__ import annotations

import json
import random
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from transformers import PreTrainedTokenizerBase

from layerscope.errors import UnsupportedModelError
from layerscope.export.spec import ExportSpec
from layerscope.inputs.models import LoadedModel
from layerscope.inputs.perturbations import drawable
from layerscope.inputs.prompts import special_ids, tokenize
from layerscope.inputs.quiet import quiet_libraries
from layerscope.states.batches import make_batches
from layerscope.tasks.encoding import pooled_states

Vectors = Float32[np.ndarray, "texts dim"]
Opened = Any
"""A folder as SentenceTransformer opens it; the library has no types."""
MOST_ERROR = 1e-5
"""Largest relative error of a vector that an export may have."""

SENTENCES: tuple[str, ...] = tuple(json.loads((Path(__file__).parent / "sentences.json").read_text(encoding="utf-8")))

BATCH = 5
_DRAWN = 12
_LONGEST_DRAWN = 64
_LONGEST_CUT = 1024


def check_texts(tokenizer: PreTrainedTokenizerBase, context: int | None) -> list[str]:
    """Texts of different lengths: sentences, and words drawn from the tokenizer's own vocabulary (seeded).

    Where the context is no more than 1,024 tokens, one text is longer than it.
    """
    draw = random.Random(0)
    ids = drawable(tokenizer.get_vocab().values(), special_ids(tokenizer))
    lengths = [1 + (_LONGEST_DRAWN - 1) * step // (_DRAWN - 1) for step in range(_DRAWN)]
    if context is not None and context <= _LONGEST_CUT:
        lengths.append(context + 8)
    drawn = [tokenizer.decode([draw.choice(ids) for _ in range(length)]) for length in lengths]
    texts = [*SENTENCES, *drawn]
    bare = len(tokenize([""], tokenizer, None)[0])
    return [text for text, ids in zip(texts, tokenize(texts, tokenizer, None), strict=True) if len(ids) > bare]


def our_vectors(model: LoadedModel, tokens: Sequence[Sequence[int]], spec: ExportSpec) -> Vectors:
    """The vectors that `layerscope tasks` scores of spec.layer, for the token ids of texts behind their prompt."""
    assert spec.layer is not None
    vectors = np.zeros((len(tokens), model.dim), np.float32)
    for batch in make_batches(tokens, 1024, model.pad_id, lengths=model.lengths):
        ((_, _, pooled),) = pooled_states(model, batch, (spec.layer,), ((spec.state,), spec.pooling))
        vectors[list(batch.rows)] = pooled
    if spec.normalize:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    return vectors


def open_export(folder: Path, device: torch.device, dtype: torch.dtype | None = None) -> Opened:
    """The folder through SentenceTransformer, with no code of ours; in its own precision, or in `dtype`.

    Raises:
        UnsupportedModelError: it does not load.
    """
    options = {} if dtype is None else {"dtype": dtype}
    with quiet_libraries(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        try:
            return SentenceTransformer(str(folder), device=str(device), model_kwargs=options, local_files_only=True)
        except Exception as error:
            text = " ".join(str(error).split())[:200] or type(error).__name__
            why = (
                f"the cut model does not load again ({text}), so it was not written: this family has no model with that "
                "few blocks; export a higher layer"
            )
            # For such types it asks for a processor, though the folder says that texts alone are read.
            if found := re.search(r"Can't load (image processor|feature extractor|video processor|processor)", text):
                why = (
                    f"sentence-transformers opens this type of model only with its {found[1]}, which a model of texts does "
                    "not have, so it was not written: use layerscope's own encoding"
                )
            raise UnsupportedModelError(why) from error


def require_same_tokens(
    opened: Opened, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], context: int | None
) -> None:
    """Refuse a folder that is opened with a tokenizer of another class, which reads texts in another way.

    transformers chooses the class by the model's type where it holds that the folder's own word for it is wrong.

    Raises:
        UnsupportedModelError: naming the first text whose token ids are others.
    """
    for text, ids in zip(texts, tokenize(texts, tokenizer, context), strict=True):
        theirs = tuple(opened.preprocess([text])["input_ids"][0].tolist())
        if theirs != ids:
            raise UnsupportedModelError(
                f"the export reads texts in another way (token ids {list(theirs[:6])} for {list(ids[:6])} at the text "
                f"{text[:40]!r}), so it was not written: transformers opens it with a {type(opened.tokenizer).__name__}, "
                f"which is not this model's tokenizer"
            )


def encode(opened: Opened, texts: Sequence[str], batch_size: int = BATCH) -> Vectors:
    """Vectors of an opened export."""
    found = opened.encode(list(texts), batch_size=batch_size, show_progress_bar=False, convert_to_numpy=True)
    return np.asarray(found, np.float32)


def encode_apart(opened: Opened, texts: Sequence[str], ranges: Sequence[int | None]) -> Vectors:
    """Vectors of an opened export where texts of two ranges of lengths are never in one batch.

    Args:
        opened: from `open_export`.
        texts: the texts.
        ranges: the range of each, as `Lengths.longest` gives it.
    """
    parts = [[row for row, longest in enumerate(ranges) if longest == one] for one in dict.fromkeys(ranges)]
    found = np.concatenate([encode(opened, [texts[row] for row in rows]) for rows in parts])
    return found[np.argsort(np.concatenate(parts))]


def relative_error(ours: Vectors, theirs: Vectors) -> Float32[np.ndarray, " texts"]:
    """The length of each vector's difference, as a share of our vector's length; NaN anywhere counts as infinite."""
    tiny = np.finfo(np.float32).tiny
    error = np.linalg.norm(theirs - ours, axis=1) / np.linalg.norm(ours, axis=1).clip(tiny)
    return np.where(np.isfinite(error), error, np.inf).astype(np.float32)


_UNKNOWN = "sentence-transformers runs this model or its tokenizer in another way; please report the model's name"


def require_equal(ours: Vectors, theirs: Vectors, texts: Sequence[str], why: str = _UNKNOWN) -> float:
    """The largest relative error.

    Args:
        ours: the layer's vectors.
        theirs: those of the export.
        texts: the texts.
        why: what is behind a difference.

    Raises:
        UnsupportedModelError: it is above `MOST_ERROR`; the message names the text.
    """
    if theirs.shape != ours.shape:
        raise UnsupportedModelError(
            f"the export gives vectors of {theirs.shape[-1]} numbers where the layer has {ours.shape[-1]}: "
            "it was not written"
        )
    error = relative_error(ours, theirs)
    worst = int(error.argmax())
    if error[worst] > MOST_ERROR:
        raise UnsupportedModelError(
            f"the export does not give the layer's vectors (relative error {error[worst]:.1g} at the text "
            f"{texts[worst][:40]!r}, at most {MOST_ERROR:g} is allowed), so it was not written: {why}"
        )
    return float(error[worst])
