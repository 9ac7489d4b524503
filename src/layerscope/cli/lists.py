"""Verbs that list what there is: metrics, models, texts."""

from __future__ import annotations

import polars as pl

from layerscope.cli.show import console, frame_table


def metrics() -> None:
    """List the metrics: unit, range, variants, what they say."""
    from layerscope.metrics.catalogue import METRICS

    rows = [
        {
            "metric": metric.name,
            "unit": metric.unit,
            "range": metric.range,
            "variants": ", ".join(metric.variants),
            "what it says": metric.summary,
        }
        for metric in METRICS.values()
    ]
    console().print(frame_table(pl.DataFrame(rows)))


def models() -> None:
    """List the models that packages ship or this machine trains. Any hub id, folder or .gguf file works too."""
    from layerscope.inputs.known_models import KNOWN_MODELS, ZOO_MODELS, KnownModel, ZooModel

    listed: dict[str, KnownModel | ZooModel] = {**KNOWN_MODELS, **ZOO_MODELS}
    rows = [
        {
            "model": name,
            "installed": "yes" if known.installed else known.command,
            "blocks": known.layers,
            "dim": known.dim,
            "what it is": known.description,
        }
        for name, known in listed.items()
    ]
    console().print(frame_table(pl.DataFrame(rows)))


def texts() -> None:
    """List the named text sources. Files and hub:org/name[:config[:split[:column]]] work too."""
    from layerscope.inputs.texts import KNOWN_TEXTS

    rows = [{"texts": name, "what it is": known.description} for name, known in KNOWN_TEXTS.items()]
    console().print(frame_table(pl.DataFrame(rows)))
