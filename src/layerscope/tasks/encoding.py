"""Texts to embeddings: one forward pass gives every layer in every state, and the cache keeps them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
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
from layerscope.states.readout import pool, read_states
from layerscope.states.state import State
from layerscope.tasks.cache import EmbeddingCache, drop_leftovers, drop_older, model_folder
from layerscope.tasks.process import threads
from layerscope.tasks.spec import TasksSpec
from layerscope.wording import counted

# What one chunk may hold: it is encoded in memory, written as one shard, and lost by a kill.
CHUNK_TEXTS = 1024
CHUNK_TOKENS = 65_536
CHUNK_BYTES = 256 * 2**20

FORMAT = 3
"""Part of the cache's key: raise it when a change makes the same text's vectors, or what is written of them, come out
differently; embeddings of older formats are removed. 3: each layer of a shard has a hash."""


@dataclass
class TextEncoder:
    """A model that encodes texts at all wanted layers and states at once, into the cache."""

    model: LoadedModel
    spec: TasksSpec
    layers: tuple[int, ...]
    report: Report = silent
    n_encoded: int = 0
    n_empty: int = 0
    seconds: float = 0.0
    caches: dict[State, EmbeddingCache] = field(init=False)

    def __post_init__(self) -> None:
        self.threads = torch.get_num_threads()
        self.context = allowed_context(self.spec.context, self.model.context)
        # Everything a text's vector depends on, but the state it is read in.
        facts: dict[str, object] = {
            "format": FORMAT,
            "revision": self.model.revision,
            "tokenizer": tokenizer_hash(self.model.tokenizer),
            "context": self.context,
            "bidirectional": self.model.spec.bidirectional,
            "part": self.model.spec.part,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.model.device.type,
            "fast_matmul": self.model.fast_matmul,
        }
        if self.model.lengths != ANY_LENGTHS:
            # Only where it matters, so that vectors of other models stay known.
            facts["lengths"] = repr(self.model.lengths)
        root = Path(self.spec.cache).expanduser() if self.spec.cache else cache_folder() / "embeddings"
        self.n_older = drop_older(root, FORMAT)
        folder = model_folder(root, self.model.spec.name, facts)
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
        start = time.perf_counter()
        lacking = self._lacking(texts)
        # Scoring runs on one thread; the model gets all that this process has.
        if lacking:
            with threads(self.threads):
                self._encode_chunks(lacking, stage)
        self.seconds += time.perf_counter() - start

    def _encode_chunks(self, lacking: Collection[str], stage: str) -> None:
        ids = tokenize(list(lacking), self.model.tokenizer, self.context)
        # Longest first: the estimate of the time left then errs on the right side.
        tokens = dict(sorted(zip(lacking, ids, strict=True), key=lambda pair: -len(pair[1])))
        total = float(sum(map(len, ids))) or 1.0
        before = 0.0
        self.report(stage, before, total)
        for chunk in self._chunks(tokens):
            # Another process may have encoded some of them meanwhile.
            wanted = self._lacking(chunk)
            done = before
            for through in self._encode({text: tokens[text] for text in wanted}, wanted) if wanted else ():
                done += through
                self.report(stage, done, total)
            before += sum(len(tokens[text]) for text in chunk)
            self.report(stage, before, total)

    def warnings(self) -> Iterator[str]:
        """What a reader should know of the texts and of the cache."""
        if self.n_empty:
            yield f"{self.n_empty} texts have no tokens: their vectors are zeros"
        lost = sum(cache.lost for cache in self.caches.values())
        if lost:
            yield (
                f"{counted(lost, 'shard')} of the cache of embeddings could not be read back as written and had to be "
                "removed; the texts were encoded again"
            )
        if self.n_older:
            yield f"embeddings of {counted(self.n_older, 'model')} in an older format were removed from the cache"

    def _lacking(self, texts: Sequence[str]) -> dict[str, frozenset[int]]:
        lacking: dict[str, frozenset[int]] = {}
        for cache in self.caches.values():
            for text, layers in cache.missing(texts, self.layers).items():
                lacking[text] = lacking.get(text, frozenset()) | layers
        return lacking

    def _chunks(self, tokens: Mapping[str, Sequence[int]]) -> Iterator[list[str]]:
        row_bytes = len(self.caches) * len(self.layers) * self.model.dim * 4
        most = max(1, min(CHUNK_TEXTS, CHUNK_BYTES // row_bytes))
        chunk, held = list[str](), 0
        for text, ids in tokens.items():
            if chunk and (len(chunk) >= most or held + len(ids) > CHUNK_TOKENS):
                yield chunk
                chunk, held = [], 0
            chunk.append(text)
            held += len(ids)
        yield chunk

    def _encode(self, tokens: Mapping[str, Sequence[int]], wanted: Mapping[str, frozenset[int]]) -> Iterator[int]:
        """Encode texts at every layer that one of them wants, and write them; yields the tokens of each batch that is through."""
        texts, ids, layers = list(tokens), list(tokens.values()), sorted(frozenset().union(*wanted.values()))
        vectors = {state: np.zeros((len(layers), len(texts), self.model.dim), np.float32) for state in self.caches}
        full = [row for row, own in enumerate(ids) if own]
        self.n_empty += len(texts) - len(full)
        batches = list(fixed_batches([ids[row] for row in full], self.spec.batch_tokens, self.model))

        def encode(batch: Batch, model: LoadedModel) -> None:
            rows = [full[row] for row in batch.rows]
            for layer, state, pooled in pooled_states(model, batch, layers, (self.spec.states, self.spec.pooling)):
                vectors[state][layers.index(layer), rows] = pooled[: len(rows)]

        for index in run_passes(self.model, [partial(encode, batch) for batch in batches]):
            yield int(batches[index].lengths[: len(batches[index].rows)].sum())
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

    Returns:
        (layer, state, vectors) with vectors (prompts, dim), in the order of the layers.
    """
    states, pooling = wanted
    found: list[tuple[int, State, Float32[np.ndarray, "prompts dim"]]] = []

    def read(layer: int, raw: Float[Tensor, "prompts tokens dim"]) -> None:
        for same, kept, lengths in read_states(model, layer, raw, batch.lengths, states):
            vectors = pool(kept, lengths, pooling)
            pooled = torch.where((lengths == 0).to(vectors.device)[:, None], 0.0, vectors).cpu().numpy()
            found.extend((layer, state, pooled) for state in same)

    capture(model, batch, read, layers=layers)
    return found


def fixed_batches(tokens: Sequence[Sequence[int]], batch_tokens: int, model: LoadedModel) -> Iterator[Batch]:
    """Split prompts into right-padded batches whose shape depends on the prompts' lengths alone, longest first.

    So a text's vectors do not depend on which texts it is encoded with. A matrix product sums in an order that depends on
    its shape: the same text in a batch of another size came out up to 5e-6 apart (relative, SmolLM2's last layer). Here
    the padded length follows from the text's own length, and the number of rows from the padded length; a batch that is
    not full is filled up with copies of its last text.

    Args:
        tokens: token ids of each prompt, at least one.
        batch_tokens: padded tokens of a batch; a longer prompt is a batch of its own.
        model: the model they are for: its context, which of them may share a batch, and what it is padded with.

    Yields:
        Batches whose first `len(batch.rows)` prompts are the given ones; the others are fillers.
    """
    buckets: dict[int, list[int]] = {}
    for row, ids in enumerate(tokens):
        buckets.setdefault(padded_length(len(ids), model), []).append(row)
    for length in sorted(buckets, reverse=True):
        size = max(1, batch_tokens // length)
        for start in range(0, len(buckets[length]), size):
            rows = tuple(buckets[length][start : start + size])
            filled = [tokens[row] for row in (*rows, *[rows[-1]] * (size - len(rows)))]
            padded = torch.tensor([[*own, *[model.pad_id] * (length - len(own))] for own in filled])
            lengths = torch.tensor(list(map(len, filled)))
            yield Batch(padded, (torch.arange(length) < lengths[:, None]).long(), lengths, rows)


def padded_length(length: int, model: LoadedModel) -> int:
    """The smallest of 2, 4, ..., 32, 36, ..., 64, 72, ..., 128, 144, ... that holds `length` tokens.

    It is no more than the model's context, nor than what a prompt of this length may be padded to.
    """
    # Few lengths, since each ends in a batch with fillers; eight between two powers of two, so that little is padding.
    step = 1 << max(1, (length - 1).bit_length() - 4)
    limits = [limit for limit in (model.context, model.lengths.longest(length)) if limit is not None]
    return max(length, min([-(-length // step) * step, *limits]))
