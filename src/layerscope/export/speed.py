"""How much faster the export encodes than the whole model, measured side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from layerscope.export.checking import SENTENCES, Opened, encode
from layerscope.inputs.models import LoadedModel
from layerscope.inputs.prompts import tokenize

_TEXTS = 32
_BATCH = 16
_ROUNDS = 5
_SECONDS = 10.0


@dataclass(frozen=True)
class Speed:
    """Seconds for the same texts, export and whole model in turn; `ratio` is the median of the rounds' ratios."""

    ratio: float
    slowest: float
    fastest: float
    rounds: int
    export_seconds: float
    whole_seconds: float
    n_texts: int
    n_tokens: int
    batch_size: int
    threads: int
    device: str


def speed_texts(texts: Sequence[str]) -> list[str]:
    """Texts of one to six sentences; of other texts where the tokenizer makes nothing of the sentences."""
    used = [text.strip() for text in texts if text in SENTENCES] or list(texts)
    return [" ".join(used[(i + j) % len(used)] for j in range(1 + i % 6)) for i in range(_TEXTS)]


def measure_speed(opened: Opened, model: LoadedModel, texts: Sequence[str], context: int | None) -> Speed:
    """Time `encode` of the export and of the whole model in the export's place: same tokenizer, batches and pooling.

    Args:
        opened: the export, as SentenceTransformer.
        model: the whole model, in the export's precision.
        texts: what to encode.
        context: the longest text in tokens.
    """
    module = opened[0]
    export = (module.model, module.modality_config)
    whole = (model.model, {"text": {"method": "forward", "method_output_name": "last_hidden_state"}})

    def seconds(which: tuple[Any, Any], chosen: Sequence[str] = texts) -> float:
        module.model, module.modality_config = which
        start = time.perf_counter()
        encode(opened, chosen, _BATCH)
        return time.perf_counter() - start

    try:
        for which in (whole, export):
            seconds(which, texts[:2])  # the first time is for caches and threads
        begun = time.perf_counter()
        times: list[tuple[float, float]] = []
        while len(times) < _ROUNDS and (not times or time.perf_counter() - begun < _SECONDS):
            times.append((seconds(whole), seconds(export)))
    finally:
        module.model, module.modality_config = export
    ratios = [slow / fast for slow, fast in times]
    return Speed(
        ratio=statistics.median(ratios),
        slowest=min(ratios),
        fastest=max(ratios),
        rounds=len(ratios),
        export_seconds=statistics.median(fast for _, fast in times),
        whole_seconds=statistics.median(slow for slow, _ in times),
        n_texts=len(texts),
        n_tokens=sum(len(ids) for ids in tokenize(texts, model.tokenizer, context)),
        batch_size=_BATCH,
        threads=torch.get_num_threads(),
        device=str(model.device),
    )
