"""The model card: what the export is, how it was checked, what it saves, and why this layer."""

from __future__ import annotations

import importlib.metadata
import json
import math
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from layerscope.export.checking import MOST_ERROR
from layerscope.export.cutting import Cut
from layerscope.export.reasons import Reasons
from layerscope.export.spec import ExportSpec
from layerscope.export.speed import Speed
from layerscope.files.reading import expanded
from layerscope.inputs.models import LoadedModel
from layerscope.wording import counted, in_markdown

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Export:
    """A written export.

    `context` is the longest text in tokens, None where there is no limit. `error` is the largest relative error of its
    vectors against our own; `rounding` what a half precision adds to that (None for float32); `size` and `whole_size` are
    bytes of weights in the export's precision, `dtype`.
    """

    path: Path
    layer: int
    blocks: int
    n_layers: int
    spec: ExportSpec
    context: int | None
    dtype: str
    error: float
    rounding: float | None
    n_texts: int
    size: int
    whole_size: int
    speed: Speed
    warnings: tuple[str, ...]


def model_card(made: Export, model: LoadedModel, cut: Cut, first_token: str | None, reasons: Reasons | None) -> str:
    """The README.md of an export, as Markdown.

    Args:
        made: the export.
        model: what it was cut from.
        cut: how it was cut.
        first_token: the token that does not count, where there is one.
        reasons: what a run says about the layer, where one was named.
    """
    # Whatever is filled in is text: no link, tag, cell or emphasis. Only what is marked safe in the template is not.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: value if isinstance(value, Markup) else Markup(in_markdown(value)),
    )
    environment.filters["number"] = lambda value, form: Markup(format(value, form))
    environment.tests["finite"] = lambda value: value is not None and math.isfinite(value)
    hub_id = name_of(model.spec.name).partition("@")[0]
    return environment.get_template("card.md.j2").render(
        made=made,
        model=model,
        cut=cut,
        first_token=first_token,
        reasons=reasons,
        most_error=MOST_ERROR,
        name_of=name_of,
        hub_id=hub_id if _HUB_ID.fullmatch(hub_id) else "",
        counted=counted,
        version=importlib.metadata.version,
        json=partial(json.dumps, ensure_ascii=False),
    )


def name_of(path: str) -> str:
    """A model's name as a card may say it; of a path on this machine its last part."""
    found = expanded(path)
    return found.name if found.exists() or found.is_absolute() else path
