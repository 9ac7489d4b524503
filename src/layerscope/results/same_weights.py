"""Runs of checkpoints that are one model under several names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from layerscope.results.measurement import RunRecord
from layerscope.results.run import Run


def same_weights(runs: Mapping[str, Run]) -> tuple[tuple[str, ...], ...]:
    """The names of runs whose models have the same weights, byte for byte; one tuple for each set of two or more.

    Args:
        runs: runs of checkpoints that are meant to differ, by name.
    """
    return _grouped((name, run.record) for name, run in runs.items())


def same_weights_notes(records: Iterable[RunRecord]) -> list[str]:
    """A sentence for each set of models that are one under several names; several runs of one model are no such set."""
    # An adapter is merged into the weights, and they are hashed before.
    plain = (record for record in records if record.spec.model.adapter is None)
    sets = _grouped((record.spec.model.name, record) for record in plain)
    return [
        f"{', '.join(names[:-1])} and {names[-1]} have the same weights, byte for byte: one model under several names"
        for names in sets
    ]


def _grouped(records: Iterable[tuple[str, RunRecord]]) -> tuple[tuple[str, ...], ...]:
    named: dict[str, list[str]] = {}
    for name, record in records:
        # Runs of older versions know the weights only together with the config.
        names = named.setdefault(record.weights or record.resolved.model_revision, [])
        names += [name] if name not in names else []
    return tuple(tuple(names) for names in named.values() if len(names) > 1)
