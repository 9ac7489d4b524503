"""Batches through the model, one a core: small models use a CPU's cores better on several batches than on one."""

from __future__ import annotations

import copy
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import replace

import torch

from layerscope.inputs.models import LoadedModel
from layerscope.inputs.standing import Standing, is_small
from layerscope.states.threads import single_threaded

Work = Callable[[LoadedModel], None]


def run_passes(model: LoadedModel, works: Sequence[Work]) -> Iterator[int]:
    """Run every work on the model, on a CPU one on each core at a time, and yield its number when it is done.

    A work runs forward passes and must not touch what another one writes. It gets the model, or a twin of it with
    modules (and so hooks) of its own over the same weights. On a CPU a work runs single-threaded whatever the number of
    cores, so its result does not depend on that number.

    Args:
        model: from `load_model`.
        works: in the order in which they start.

    Yields:
        Positions in `works`, as they end.

    Raises:
        Whatever a work raises, after the works that were running have ended; later works are not started.
    """
    if not shares_cores(model):
        for index, work in enumerate(works):
            work(model)
            yield index
        return
    cores = torch.get_num_threads()
    free: queue.SimpleQueue[LoadedModel] = queue.SimpleQueue()
    for ready in (model, *twins(model, min(cores, len(works)) - 1)):
        free.put(ready)
    stopped = False

    def run(work: Work) -> None:
        if stopped:
            return
        mine = free.get()
        try:
            work(mine)
        finally:
            free.put(mine)

    futures: dict[Future[None], int] = {}
    pool = single_threaded("layerscope-pass", cores)
    try:
        futures = {pool.submit(run, work): index for index, work in enumerate(works)}
        for future in as_completed(futures):
            future.result()
            yield futures[future]
    finally:
        # Also on Ctrl-C and where the caller stops reading: nobody may use the model's weights behind our back.
        stopped = True
        for future in futures:
            future.cancel()
        for future in futures:
            if not future.cancelled():
                future.exception()


def shares_cores(model: LoadedModel) -> bool:
    """Whether works run beside each other: a whole model on the CPU.

    The fast float32 products are switched on for the process, so there the works take turns.
    """
    return model.device.type == "cpu" and model.spec.device_map is None and not model.fast_matmul


def twins(model: LoadedModel, n: int) -> list[LoadedModel]:
    """Copies of a model's modules that share its weights; made once and kept with the model.

    Small buffers are each twin's own: rotary frequencies are written anew in a pass.
    """
    made: list[LoadedModel] = model.twins
    while len(made) < n:
        large = (buffer for buffer in model.model.buffers() if not is_small(buffer))
        shared = {id(tensor): tensor for tensor in (*model.model.parameters(), *large)}
        module, parts = copy.deepcopy((model.model, replace(model.parts, standing=None)), memo=shared)
        parts = replace(parts, standing=Standing(module))
        made.append(replace(model, model=module, parts=parts, twins=[]))
    return made[:n]
