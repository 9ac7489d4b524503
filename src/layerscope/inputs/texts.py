"""Text sources: from a name, a file or a hub data set to texts with an id. No tokenizer is involved here."""

from __future__ import annotations

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
_Cells = tuple[object, ...]
_WhyNot = Callable[[_Cells], str]


@dataclass(frozen=True, slots=True)
class Text:
    """One text of a source. `id` is unique within its source; `label` is empty where the source has none."""

    id: str
    text: str
    label: str = ""


_Make = Callable[[str, _Cells], Text]


@dataclass(frozen=True, eq=False)
class StoredTexts(Sequence[Text]):
    """Texts that stay in their file and are read from it when asked for: `make` gives one from an id and its cells."""

    table: files.Table
    columns: Sequence[str]
    rows: Sequence[int]
    make: _Make

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Text]:
        return self._read(self.rows)

    def __getitem__(self, place: Any) -> Any:  # noqa: ANN401
        return self.take(range(len(self))[place]) if isinstance(place, slice) else self.take([place])[0]

    def take(self, places: Sequence[int]) -> list[Text]:
        """The texts at some places, in one way through the file."""
        order = sorted({self.rows[place] for place in places})
        found = dict(zip(order, self._read(order), strict=True))
        return [found[self.rows[place]] for place in places]

    def _read(self, rows: Sequence[int]) -> Iterator[Text]:
        for row, cells in zip(rows, self.table.cells(self.columns, rows), strict=True):
            yield self.make(self.table.id(row), cells)


@dataclass(frozen=True)
class TextSet:
    """All texts of a source, in the source's order.

    `skipped` names every row that holds no usable text, with the reason; `counts` says how many rows the
    filters of the source left out, by filter; `default_min_tokens` holds where TextSpec.min_tokens is not given.
    """

    texts: Sequence[Text]
    source: str
    revision: str
    filters: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    default_min_tokens: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def ids(self) -> Iterator[str]:
        """The texts' ids; no file is read for them."""
        texts = self.texts
        return map(texts.table.id, texts.rows) if isinstance(texts, StoredTexts) else (text.id for text in texts)

    def take(self, places: Sequence[int]) -> list[Text]:
        """The texts at some places."""
        kept = self.texts
        return kept.take(places) if isinstance(kept, StoredTexts) else [kept[place] for place in places]


def load_texts(spec: TextSpec) -> TextSet:
    """The texts of a source after the source's own filters, in the source's order.

    Args:
        spec: `source` is a name of `KNOWN_TEXTS`, a .txt, .jsonl, .csv or .parquet file, or
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

    A UserError where the source is not there any more, or the hub cannot be asked.
    """
    source = spec.source
    if _is_random(spec):
        return "none"
    if source in KNOWN_TEXTS:
        name = KNOWN_TEXTS[source].hub
        return f"{name.path} {hub.hub_revision(name, spec.data_dir)}" if name else wiki.wiki_revision()
    if source.startswith("hub:"):
        return hub.hub_revision(hub.parse_hub(source), spec.data_dir)
    return files.file_revision(expanded(source))


def _is_random(spec: TextSpec) -> bool:
    kind = parse_perturbation(spec.perturbation)
    return kind is not None and kind.kind == "random"


def _load(spec: TextSpec) -> TextSet:
    source = spec.source
    if _is_random(spec):
        return TextSet((), source="random", revision="none")
    if source in KNOWN_TEXTS:
        if spec.column is not None:
            raise UserError(f"texts {source!r} have one fixed text, so leave out the column {spec.column!r}")
        known = KNOWN_TEXTS[source]
        if known.hub is None:
            leads = tuple(Text(lead.title, lead.extract, lead.topic) for lead in wiki.load_wiki())
            return TextSet(leads, source, wiki.wiki_revision())
        table, revision = hub.read_hub(known.hub, spec.data_dir, known.most)
        columns = [files.choose_column(table, column) for column in known.columns]
        return _text_set(source, f"{known.hub.path} {revision}", table, columns, known)
    if source.startswith("hub:"):
        name = hub.parse_hub(source)
        if spec.column and name.column and spec.column != name.column:
            raise UserError(f"two columns were given, {name.column!r} in {source!r} and {spec.column!r}: give one")
        table, revision = hub.read_hub(name, spec.data_dir, hub.MOST_ROWS)
        columns = _with_label(table, spec.column or name.column)
        return _text_set(source, revision, table, columns, KnownText("", most=hub.MOST_ROWS))
    path = expanded(source)
    if path.suffix.lower() in files.SUFFIXES:
        revision = files.file_revision(path)
        layout = csv_layout(spec.separator, header=not spec.no_header)
        table = files.open_table(path, layout=layout)
        if path.suffix.lower() == ".csv" and layout.header and spec.column is None and "text" not in table.textual:
            for column in table.textual:
                refuse_missing_header(source, table.names, column, table.column(column))
        return _text_set(source, revision, table, _with_label(table, spec.column), KnownText("", most=0))
    if path.suffix or os.sep in source or path.exists():
        raise UserError(
            f"texts {source!r}: expected a file that ends in {', '.join(files.SUFFIXES)}, a name of "
            f"`layerscope texts` ({', '.join(sorted(KNOWN_TEXTS))}) or hub:org/name"
        )
    raise unknown("texts", source, KNOWN_TEXTS)


def _text_set(source: str, revision: str, table: files.Table, columns: Sequence[str], known: KnownText) -> TextSet:
    """The rows that are texts, and why others are not; a reason that `known` has as a filter's is only counted."""
    rows, skipped, counts = array("q"), [], dict.fromkeys(known.counted, 0)
    for place, cells in enumerate(table.cells(columns, None)):
        reason = known.why_not(cells)
        if reason in counts:
            counts[reason] += 1
        elif reason:
            skipped.append((table.id(place), reason))
        else:
            rows.append(place)
    first = (f"first {known.most:,} rows",) if len(table.numbers) == known.most else ()
    texts, filters = StoredTexts(table, columns, rows, known.make), (*first, *known.filters)
    return TextSet(texts, source, revision, filters, tuple(skipped), known.min_tokens, counts)


def _with_label(table: files.Table, wanted: str | None) -> list[str]:
    column = files.choose_column(table, wanted)
    return [column, *(name for name in ("label_text", "label") if name in table.names and name != column)][:2]


def _not_plain(cells: _Cells) -> str:
    return _not_a_text(cells[0])


def _plain(row: str, cells: _Cells) -> Text:
    return Text(row, str(cells[0]), "" if cells[-1] is None or len(cells) == 1 else str(cells[-1]))


def is_heading(line: str) -> bool:
    """Whether a WikiText line is a heading such as ` = = Early life = = `; one `=` alone is one too."""
    stripped = line.strip()
    return stripped.startswith("=") and stripped.endswith("=")


def _not_of_wikitext(cells: _Cells) -> str:
    (cell,) = cells
    if isinstance(cell, str) and (is_heading(cell) or not cell.strip()):
        return "headings" if is_heading(cell) else "empty"
    return _not_a_text(cell)


def _not_medical(cells: _Cells) -> str:
    named = zip(("question", "context"), cells, strict=True)
    return "; ".join(f"{name} {reason}" for name, cell in named if (reason := _not_a_text(cell)))


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


@dataclass(frozen=True)
class KnownText:
    """What is known of a text source, of which the first `most` rows are read: ai-medical has 21 million.

    `hub` is None where a package ships the texts; then nothing else is said.
    """

    description: str
    hub: hub.HubName | None = None
    most: int = 25_000
    columns: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()
    min_tokens: int = 0
    why_not: _WhyNot = _not_plain
    make: _Make = _plain


KNOWN_TEXTS = {
    "wiki": KnownText("English Wikipedia leads with 11 topic labels and short descriptions"),
    "wikitext": KnownText(
        "WikiText-103 paragraphs, the papers' main texts",
        hub.HubName("Salesforce/wikitext", "wikitext-103-v1", "train"),
        columns=("text",),
        filters=("no headings (= ... =)", "no empty lines"),
        counted=("headings", "empty"),
        min_tokens=30,
        why_not=_not_of_wikitext,
    ),
    "ai-medical": KnownText(
        "medical questions with context in the papers' prompt template",
        hub.HubName("ruslanmv/ai-medical-dataset", None, "train"),
        columns=("question", "context"),
        filters=("prompt template of arXiv 2412.09563, appendix E",),
        why_not=_not_medical,
        make=lambda row, cells: Text(row, MEDICAL_TEMPLATE.format(question=cells[0], context=cells[1])),
    ),
}
"""The text sources that have a name."""
