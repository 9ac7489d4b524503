"""A layer as an MTEB encoder: it looks its vectors up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction

from layerscope.tasks.cache import EmbeddingCache, MissingTextsError

Fill = Callable[[Sequence[str]], None]
"""Puts texts into the cache at every layer and state."""


class LayerEncoder(AbsEncoder):  # type: ignore[misc]
    """MTEB's EncoderProtocol for one layer and state: every vector comes from the cache.

    Args:
        cache: the embeddings of one model in one state.
        layer: the layer whose vectors are given.
        name: what MTEB calls the model, such as "smollm2-135m/layer_7".
        fill: encodes texts that the cache lacks; without it a missing text is an error.
    """

    def __init__(self, cache: EmbeddingCache, layer: int, name: str, fill: Fill | None = None) -> None:
        self.cache = cache
        self.layer = layer
        self.fill = fill
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": name,
                "revision": "layerscope",
                "similarity_fn_name": ScoringFunction.COSINE,
                "modalities": ["text"],
            }
        )

    def encode(self, inputs: Any, **_: Any) -> Float32[np.ndarray, "texts dim"]:  # noqa: ANN401
        """Vectors of the texts of an MTEB data loader, in its order.

        Raises:
            MissingTextsError: texts are not in the cache, and there is nothing to encode them with.
        """
        texts = loader_texts(inputs)
        try:
            return self.cache.read(texts, self.layer)
        except MissingTextsError:
            if self.fill is None:
                raise
        self.fill(texts)
        return self.cache.read(texts, self.layer)


def loader_texts(loader: Any) -> list[str]:  # noqa: ANN401
    """The texts of a data loader, in order. MTEB has joined titles, instructions and conversations by then."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler

    rows = getattr(loader, "dataset", None)
    # Iterating the loader collates row by row, which took longer than looking the vectors up.
    if isinstance(rows, Dataset) and isinstance(getattr(loader, "sampler", None), SequentialSampler):
        texts = list(rows["text"])
    else:
        texts = [text for batch in loader for text in batch["text"]]
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if wrong is not None:
        raise TypeError(f"expected texts, got {type(wrong).__name__}: only text tasks can be scored")
    return texts
