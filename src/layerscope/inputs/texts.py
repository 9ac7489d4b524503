"""Text sources: from a name, a file or a hub data set to texts with an id. No tokenizer is involved here."""

from __future__ import annotations

import importlib.util
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerscope.config import TextSpec
from layerscope.errors import UserError, unknown
from layerscope.files.reading import expanded, named_errors
from layerscope.inputs import files, hub, wiki
from layerscope.inputs.csv_files import csv_layout, refuse_missing_header
from layerscope.inputs.perturbations import parse_perturbation

MEDICAL_TEMPLATE = (
    "You are an AI Medical Assistant Chatbot, trained to answer medical questions. Below is an instruction that "
    "describes a task, paired with an response context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{question}\n\n\n### Response:\n{context}"
)


@dataclass(frozen=True, slots=True)
class Text:
    """One text of a source. `id` is unique within its source; `label` is empty where the source has none."""

    id: str
    text: str
    label: str = ""


class StoredTexts(Sequence[Text]):
    """Texts that stay in their file and are read from it when asked for."""

    def __init__(self, table: files.Table, columns: Sequence[str], rows: Sequence[int], make: _Make) -> None:
        self.table = table
        self.columns = columns
        self.rows = rows
        self.make = make

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Text]:
        return self._read(self.rows)

    def __getitem__(self, place: Any) -> Any:  # noqa: ANN401
        return self.take(range(len(self))[place]) if isinstance(place, slice) else self.take([place])[0]

    def ids(self) -> Iterator[str]:
        """The texts' ids; nothing is read for them."""
        return (self.table.ids[row] for row in self.rows)

    def take(self, places: Sequence[int]) -> list[Text]:
        """The texts at some places, in one way through the file."""
        order = sorted({self.rows[place] for place in places})
        found = dict(zip(order, self._read(order), strict=True))
        return [found[self.rows[place]] for place in places]

    def _read(self, rows: Sequence[int]) -> Iterator[Text]:
        for row, cells in zip(rows, self.table.cells(self.columns, rows), strict=True):
            yield self.make(self.table.ids[row], cells)


_Cells = tuple[object, ...]
_Make = Callable[[str, _Cells], Text]


@dataclass(frozen=True)
class TextSet:
    """All texts of a source, in the source's order.

    `skipped` names every row that holds no usable text, with the reason; `counts` says how many rows the
    filters of the source left out, by filter; `default_min_tokens` holds where TextSpec.min_tokens is not given.
    """

    texts: Sequence[Text]
    source: str
    revision: str
    filters: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    default_min_tokens: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def ids(self) -> Iterator[str]:
        """The texts' ids."""
        return self.texts.ids() if isinstance(self.texts, StoredTexts) else (text.id for text in self.texts)

    def take(self, places: Sequence[int]) -> list[Text]:
        """The texts at some places."""
        kept = self.texts
        return kept.take(places) if isinstance(kept, StoredTexts) else [kept[place] for place in places]


@dataclass(frozen=True)
class KnownText:
    """A text source that has a name. `hub` is empty where a package ships the texts."""

    name: str
    description: str
    note: str
    installed: bool
    package: str = ""
    hub: str = ""


@dataclass(frozen=True)
class _HubText:
    name: hub.HubName
    rows: int  # only the first rows of the split are read: ai-medical has 21 million
    columns: tuple[str, ...]
    filters: tuple[str, ...]
    min_tokens: int
    description: str
    note: str


_HUB_TEXTS = {
    "wikitext": _HubText(
        name=hub.HubName("Salesforce/wikitext", "wikitext-103-v1", "train"),
        rows=25_000,
        columns=("text",),
        filters=("no headings (= ... =)", "no empty lines"),
        min_tokens=30,
        description="WikiText-103 paragraphs, the papers' main texts",
        note="no headings, no empty lines, at least 30 tokens; the first 25,000 rows of train",
    ),
    "ai-medical": _HubText(
        name=hub.HubName("ruslanmv/ai-medical-dataset", None, "train"),
        rows=25_000,
        columns=("question", "context"),
        filters=("prompt template of arXiv 2412.09563, appendix E",),
        min_tokens=0,
        description="medical questions with context in the papers' prompt template",
        note="the first 25,000 rows of train",
    ),
}


def known_texts() -> dict[str, KnownText]:
    """The text sources that have a name, with what they are and whether they are there."""
    known = {
        "wiki": KnownText(
            name="wiki",
            description="English Wikipedia leads with 11 topic labels and short descriptions",
            note="10,033 vital articles; data only",
            installed=importlib.util.find_spec(wiki.MODULE) is not None,
            package=wiki.PACKAGE,
        )
    }
    for name, text in _HUB_TEXTS.items():
        known[name] = KnownText(
            name=name,
            description=text.description,
            note=text.note,
            installed=hub.stand_in(text.name.path, None) is not None,
            hub=text.name.path,
        )
    return known


def load_texts(spec: TextSpec) -> TextSet:
    """The texts of a source after the source's own filters, in the source's order.

    Args:
        spec: `source` is a name of `known_texts`, a .txt, .jsonl, .csv or .parquet file, or
            `hub:org/name[:config[:split[:column]]]`; `column` and `data_dir` are used where they apply. With the
            perturbation `random:T` no text is needed and none is read.

    Returns:
        The texts, with the revision of the data (a hub commit, or a hash of the file), the filters that were
        applied, and every row that was skipped with its reason.

    Raises:
        UserError: the name is unknown, the data is not there or not reachable, it cannot be read, or a file changed
            meanwhile.
    """
    is_file = Path(spec.source).suffix.lower() in files.SUFFIXES and not spec.source.startswith("hub:")
    if not is_file and (spec.separator is not None or spec.no_header):
        raise UserError(f"texts {spec.source!r}: separator and no_header are for .csv files: leave them out")
    with named_errors(Path(spec.source)):
        found = _load(spec)
    # A file is read more than once, so what was read is only known where it is the same before and after.
    if "sha256:" in found.revision and (now := texts_revision(spec)) != found.revision:
        raise UserError(
            f"texts {spec.source!r} changed while they were read ({found.revision} -> {now}): run the same command again"
        )
    return found


def texts_revision(spec: TextSpec) -> str:
    """The revision that `load_texts` would give now: a hash of the file, or the hub's commit. No text is read.

    Raises:
        UserError: the source is not there any more, or the hub cannot be asked.
    """
    if _is_random(spec):
        return "none"
    source = spec.source
    if source == "wiki":
        return wiki.wiki_revision()
    if source in _HUB_TEXTS:
        name = _HUB_TEXTS[source].name
        return f"{name.path} {hub.hub_revision(name, spec.data_dir)}"
    if source.startswith("hub:"):
        return hub.hub_revision(hub.parse_hub(source), spec.data_dir)
    return files.file_revision(expanded(source))


def _is_random(spec: TextSpec) -> bool:
    kind = parse_perturbation(spec.perturbation)
    return kind is not None and kind.kind == "random"


def _load(spec: TextSpec) -> TextSet:
    if _is_random(spec):
        return TextSet((), source="random", revision="none", filters=())
    source = spec.source
    if source == "wiki":
        _no_column(spec, "wiki")
        return _wiki()
    if source in _HUB_TEXTS:
        _no_column(spec, source)
        return _hub_text(source, spec.data_dir)
    if source.startswith("hub:"):
        return _hub(spec)
    path = expanded(source)
    if path.suffix.lower() in files.SUFFIXES:
        return _file(path, spec)
    if path.suffix or os.sep in source or path.exists():
        raise UserError(
            f"texts {source!r}: expected a file that ends in {', '.join(files.SUFFIXES)}, a name of "
            f"`layerscope texts` ({', '.join(sorted(known_texts()))}) or hub:org/name"
        )
    raise unknown("texts", source, known_texts())


def _no_column(spec: TextSpec, source: str) -> None:
    if spec.column is not None:
        raise UserError(f"texts {source!r} have one fixed text, so leave out the column {spec.column!r}")


def _wiki() -> TextSet:
    leads = wiki.load_wiki()
    return TextSet(
        texts=tuple(Text(lead.title, lead.extract, lead.topic) for lead in leads),
        source="wiki",
        revision=wiki.wiki_revision(),
        filters=(),
    )


def _file(path: Path, spec: TextSpec) -> TextSet:
    revision = files.file_revision(path)
    layout = csv_layout(spec.separator, header=not spec.no_header)
    table = files.read_table(path, layout=layout)
    if path.suffix.lower() == ".csv" and layout.header and spec.column is None and "text" not in table.textual:
        for name in table.textual:
            refuse_missing_header(spec.source, table.names, name, table.column(name))
    column = files.choose_column(table, spec.column)
    texts, skipped, _ = _texts_of(table, column)
    return TextSet(texts, source=spec.source, revision=revision, filters=(), skipped=skipped)


def _hub(spec: TextSpec) -> TextSet:
    name = hub.parse_hub(spec.source)
    if spec.column and name.column and spec.column != name.column:
        raise UserError(f"two columns were given, {name.column!r} in {spec.source!r} and {spec.column!r}: give one")
    table, revision = hub.read_hub(name, spec.data_dir, hub.MOST_ROWS)
    column = files.choose_column(table, spec.column or name.column)
    texts, skipped, _ = _texts_of(table, column)
    filters = (f"first {hub.MOST_ROWS:,} rows",) if len(table.ids) == hub.MOST_ROWS else ()
    return TextSet(texts, source=spec.source, revision=revision, filters=filters, skipped=skipped)


def _hub_text(source: str, data_dir: str | None) -> TextSet:
    known = _HUB_TEXTS[source]
    table, revision = hub.read_hub(known.name, data_dir, known.rows)
    filters = known.filters
    if len(table.ids) == known.rows:
        filters = (f"first {known.rows:,} rows", *filters)
    builder = _wikitext if source == "wikitext" else _medical
    texts, skipped, counts = builder(table, [files.choose_column(table, column) for column in known.columns])
    return TextSet(
        texts,
        source=source,
        revision=f"{known.name.path} {revision}",
        filters=filters,
        skipped=skipped,
        default_min_tokens=known.min_tokens,
        counts=counts,
    )


_Built = tuple[StoredTexts, tuple[tuple[str, str], ...], dict[str, int]]


def is_heading(line: str) -> bool:
    """Whether a WikiText line is a heading such as ` = = Early life = = `; one `=` alone is one too."""
    stripped = line.strip()
    return stripped.startswith("=") and stripped.endswith("=")


def _wikitext(table: files.Table, columns: Sequence[str]) -> _Built:
    counts = {"headings": 0, "empty": 0}

    def left_out(cells: _Cells) -> str | None:
        (cell,) = cells
        name = "" if not isinstance(cell, str) else "headings" if is_heading(cell) else "" if cell.strip() else "empty"
        if name:
            counts[name] += 1
        return None if name else _not_a_text(cell)

    texts, skipped, _ = _stored(table, columns, left_out, _plain)
    return texts, skipped, counts


def _medical(table: files.Table, columns: Sequence[str]) -> _Built:
    def left_out(cells: _Cells) -> str:
        named = zip(("question", "context"), cells, strict=True)
        return "; ".join(f"{name} {reason}" for name, cell in named if (reason := _not_a_text(cell)))

    def make(row: str, cells: _Cells) -> Text:
        return Text(row, MEDICAL_TEMPLATE.format(question=cells[0], context=cells[1]))

    return _stored(table, columns, left_out, make)


def _texts_of(table: files.Table, column: str) -> _Built:
    label = next((name for name in ("label_text", "label") if name in table.names and name != column), None)
    columns = [column] if label is None else [column, label]
    return _stored(table, columns, lambda cells: _not_a_text(cells[0]), _plain)


def _plain(row: str, cells: _Cells) -> Text:
    return Text(row, str(cells[0]), "" if cells[-1] is None or len(cells) == 1 else str(cells[-1]))


def _stored(
    table: files.Table, columns: Sequence[str], left_out: Callable[[_Cells], str | None], make: _Make
) -> _Built:
    """The rows that are texts, and those skipped: `left_out` says why, or None of a row that the source's filters count."""
    rows, skipped = array("q"), []
    for place, cells in enumerate(table.cells(columns, None)):
        reason = left_out(cells)
        if reason:
            skipped.append((table.ids[place], reason))
        elif reason is not None:
            rows.append(place)
    return StoredTexts(table, columns, rows, make), tuple(skipped), {}


def _not_a_text(cell: object) -> str:
    """Why a cell cannot be a prompt; empty where it can."""
    if cell is None:
        return "holds nothing (null, or the column is missing in this row)"
    if not isinstance(cell, str):
        return f"holds {type(cell).__name__} {str(cell)[:40]!r}, not text"
    if not cell.strip():
        return "is empty" if not cell else "is only white space"
    try:
        cell.encode("utf-8")
    except UnicodeEncodeError:
        # JSON can hold "\\ud800"; no tokenizer can read it
        return "holds half a surrogate pair, which is not a character"
    return ""
