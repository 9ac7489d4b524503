"""Texts to embeddings: one forward pass gives every layer in every state, and the cache keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from layerscope.config import Pooling
from layerscope.inputs.gguf_files import cache_folder
from layerscope.inputs.identity import tokenizer_hash
from layerscope.inputs.lengths import ANY_LENGTHS
from layerscope.inputs.models import LoadedModel
from layerscope.inputs.prompts import allowed_context, tokenize
from layerscope.measuring.progress import Report, silent
from layerscope.states.batches import Batch
from layerscope.states.capture import capture
from layerscope.states.passes import run_passes
from layerscope.states.pooling import pool
from layerscope.states.readout import read_states
from layerscope.states.state import State
from layerscope.tasks.batches import fixed_batches
from layerscope.tasks.cache import EmbeddingCache, drop_leftovers, model_folder
from layerscope.tasks.spec import TasksSpec

# What one chunk may hold: it is encoded in memory, written as one shard, and lost by a kill.
CHUNK_TEXTS = 1024
CHUNK_TOKENS = 65_536
CHUNK_BYTES = 256 * 2**20

FORMAT = 2
"""Part of the cache's key: raise it when a change makes the same text's vectors come out differently. 2: what a GGUF file,
an adapter or a class changes in the forward pass is read, so some models of version 0.1.0 had other vectors; and a text's
vectors no longer depend on the number of cores in their last digits."""


@dataclass
class TextEncoder:
    """A model that encodes texts at all wanted layers and states at once, into the cache."""

    model: LoadedModel
    spec: TasksSpec
    layers: tuple[int, ...]
    report: Report = silent
    n_encoded: int = 0
    n_empty: int = 0
    caches: dict[State, EmbeddingCache] = field(init=False)

    def __post_init__(self) -> None:
        self.context = allowed_context(self.spec.context, self.model.context)
        folder = model_folder(cache_root(self.spec), self.model.spec.name, _facts(self.model, self.context))
        drop_leftovers(folder)
        self.caches = {
            state: EmbeddingCache(folder / f"{state.slug}_{self.spec.pooling}") for state in self.spec.states
        }

    def fill(self, texts: Sequence[str], stage: str = "encoding") -> None:
        """Encode what the cache lacks of these texts, chunk by chunk; each chunk is safe on disk before the next.

        Args:
            texts: any texts; each is encoded once.
            stage: the stage's name in the progress report.
        """
        lacking = self._lacking(texts)
        if not lacking:
            return
        tokens = dict(zip(lacking, tokenize(list(lacking), self.model.tokenizer, self.context), strict=True))
        # Longest first: the estimate of the time left then errs on the right side.
        order = sorted(tokens, key=lambda text: -len(tokens[text]))
        total = float(sum(len(ids) for ids in tokens.values())) or 1.0
        done = 0.0
        self.report(stage, done, total)
        for chunk in self._chunks(order, tokens):
            # Another process may have encoded some of them meanwhile.
            wanted = self._lacking(chunk)
            if wanted:
                layers = tuple(sorted(frozenset().union(*wanted.values())))
                self._encode(list(wanted), [tokens[text] for text in wanted], layers, (stage, done, total))
            done += sum(len(tokens[text]) for text in chunk)
            self.report(stage, done, total)

    def _lacking(self, texts: Sequence[str]) -> dict[str, frozenset[int]]:
        lacking: dict[str, frozenset[int]] = {}
        for cache in self.caches.values():
            for text, layers in cache.missing(texts, self.layers).items():
                lacking[text] = lacking.get(text, frozenset()) | layers
        return lacking

    def _chunks(self, order: Sequence[str], tokens: dict[str, tuple[int, ...]]) -> Iterator[list[str]]:
        row_bytes = len(self.caches) * len(self.layers) * self.model.dim * 4
        most = max(1, min(CHUNK_TEXTS, CHUNK_BYTES // row_bytes))
        chunk: list[str] = []
        held = 0
        for text in order:
            if chunk and (len(chunk) >= most or held + len(tokens[text]) > CHUNK_TOKENS):
                yield chunk
                chunk, held = [], 0
            chunk.append(text)
            held += len(tokens[text])
        if chunk:
            yield chunk

    def _encode(
        self,
        texts: list[str],
        tokens: list[tuple[int, ...]],
        layers: tuple[int, ...],
        progress: tuple[str, float, float],
    ) -> None:
        stage, done, total = progress
        vectors = {state: np.zeros((len(layers), len(texts), self.model.dim), np.float32) for state in self.caches}
        full = [row for row, ids in enumerate(tokens) if ids]
        self.n_empty += len(texts) - len(full)
        batches = list(fixed_batches([tokens[row] for row in full], self.spec.batch_tokens, self.model))

        def encode(batch: Batch, model: LoadedModel) -> None:
            rows = [full[row] for row in batch.rows]
            for layer, state, pooled in pooled_states(model, batch, layers, (self.spec.states, self.spec.pooling)):
                vectors[state][layers.index(layer), rows] = pooled[: len(rows)]

        for index in run_passes(self.model, [partial(encode, batch) for batch in batches]):
            done += int(batches[index].lengths[: len(batches[index].rows)].sum())
            self.report(stage, done, total)
        for state, cache in self.caches.items():
            lacking = cache.missing(texts, layers)
            kept = [row for row, text in enumerate(texts) if text in lacking]
            if kept:
                cache.write([texts[row] for row in kept], layers, vectors[state][:, kept])
        self.n_encoded += len(texts)


def pooled_states(
    model: LoadedModel, batch: Batch, layers: Sequence[int], wanted: tuple[Sequence[State], Pooling]
) -> list[tuple[int, State, Float32[np.ndarray, "prompts dim"]]]:
    """Pooled vectors of a batch at the layers, in the states, from one forward pass.

    A prompt with no token left (an empty text, or one token without the first) gives a vector of zeros, as
    sentence-transformers does.

    Args:
        model: the model.
        batch: right-padded prompts.
        layers: the layers wanted.
        wanted: the states, and the pooling.

    Returns:
        (layer, state, vectors) with vectors (prompts, dim), in the order of the layers.
    """
    states, pooling = wanted
    found: list[tuple[int, State, Float32[np.ndarray, "prompts dim"]]] = []

    def read(layer: int, raw: Float[Tensor, "prompts tokens dim"]) -> None:
        for same, kept, lengths in read_states(model, layer, raw, batch.lengths, states):
            pooled = _pooled(kept, lengths, pooling)
            found.extend((layer, state, pooled) for state in same)

    capture(model, batch, read, layers=layers)
    return found


def _pooled(
    states: Float[Tensor, "prompts tokens dim"], lengths: Int[Tensor, " prompts"], pooling: Pooling
) -> Float32[np.ndarray, "prompts dim"]:
    vectors = pool(states, lengths, pooling)
    vectors = torch.where((lengths == 0).to(vectors.device)[:, None], 0.0, vectors)
    array: Float32[np.ndarray, "prompts dim"] = vectors.cpu().numpy()
    return array


def cache_root(spec: TasksSpec) -> Path:
    """The root of the cache of embeddings."""
    return Path(spec.cache).expanduser() if spec.cache else cache_folder() / "embeddings"


def _facts(model: LoadedModel, context: int | None) -> dict[str, object]:
    """Everything a text's vector depends on, but the state it is read in."""
    facts: dict[str, object] = {
        "format": FORMAT,
        "revision": model.revision,
        "tokenizer": tokenizer_hash(model.tokenizer),
        "context": context,
        "bidirectional": model.spec.bidirectional,
        "part": model.spec.part,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "fast_matmul": model.fast_matmul,
    }
    if model.lengths != ANY_LENGTHS:
        # Only where it matters, so that vectors of other models stay known.
        facts["lengths"] = repr(model.lengths)
    return facts
