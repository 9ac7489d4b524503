"""Runs of checkpoints that are one model under several names."""

from __future__ import annotations

from collections.abc import Mapping

from layerscope.results.run import Run


def same_weights(runs: Mapping[str, Run]) -> tuple[tuple[str, ...], ...]:
    """The names of runs whose models have the same weights, byte for byte; one tuple for each set of two or more.

    Args:
        runs: runs of checkpoints that are meant to differ, by name.
    """
    named: dict[str, list[str]] = {}
    for name, run in runs.items():
        # Runs of older versions know the weights only together with the config.
        named.setdefault(run.record.weights or run.record.resolved.model_revision, []).append(name)
    return tuple(tuple(names) for names in named.values() if len(names) > 1)
