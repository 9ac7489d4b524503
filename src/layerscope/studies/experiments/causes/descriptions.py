"""What is known of each prompt besides its states: the candidate causes of what its states do."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from jaxtyping import Float
from pydantic import Field

from layerscope.config import ModelSpec, TextSpec
from layerscope.errors import DamagedError, LayerscopeError, UserError
from layerscope.files.locks import locked
from layerscope.inputs.identity import model_identity
from layerscope.inputs.texts import texts_revision
from layerscope.measuring.progress import Report
from layerscope.results.contents import Verb
from layerscope.results.record import SCHEMA_VERSION, Keeper, Record, circumstances
from layerscope.results.resume import Look, compare_sources, earlier
from layerscope.results.tables import read_table, write_table
from layerscope.studies.jobs import texts_identity

TABLE = "descriptions.parquet"
VERSION = 1

DESCRIPTIONS = pl.Schema(
    dict.fromkeys(("prompt_id", "text", "first_token"), pl.String())
    | dict.fromkeys(("tokens", "characters", "lexical_diversity", "readability"), pl.Float64())
    | dict.fromkeys(("loss", "rare_tokens", "overlap"), pl.Float64())
    | {"language": pl.String(), "bos": pl.Boolean(), "first_kind": pl.String(), "first_frequency": pl.Float64()}
)


class DescribeRecord(Record):
    """The record of a description."""

    FILE: ClassVar[str] = "notes.json"
    VERB: ClassVar[Verb] = "describe"
    # A kill leaves the table without its record.
    BESIDE: ClassVar[tuple[Verb, ...] | None] = ("describe",)

    # Version 0.1.0 wrote none.
    schema_version: int = 1
    reasons: dict[str, str]
    notes: tuple[str, ...]
    sources: dict[str, str] = Field(default_factory=dict)
    """The revisions of the model, the texts and the reference; empty where version 0.1.0 described."""


@dataclass(frozen=True)
class Descriptions:
    """One row a prompt, and why a column has no values where it has none."""

    table: pl.DataFrame
    reasons: dict[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Describe:
    """A job that describes the prompts of a measurement. Its result is `Descriptions`."""

    key: str
    model: ModelSpec
    texts: TextSpec
    reference: str = "wiki"

    @property
    def slug(self) -> str:
        """The model and the texts."""
        return f"describe-{self.model.name}-{self.texts.source}"

    @property
    def identity(self) -> dict[str, Any]:
        """Model, texts and reference."""
        asked = {"model": self.model.model_dump(mode="json"), "texts": texts_identity(self.texts)}
        return {"describe": VERSION, **asked, "reference": self.reference}

    def start(self, folder: Path, report: Report) -> Descriptions:
        """Describe the prompts, or read what was written before; what is damaged is made again, and the record says so."""
        with locked(folder):
            warnings: tuple[str, ...] = ()
            try:
                if found := self._read(folder):
                    return found
            except DamagedError as error:
                warnings = (f"made again: {error}",)
            made = describe(self, report)
            write_table([made.table], DESCRIPTIONS, folder / TABLE)
            # The record is written last: where it is, the table is whole.
            told = {"reasons": made.reasons, "notes": made.notes, "sources": self._sources(), "warnings": warnings}
            record = DescribeRecord(schema_version=SCHEMA_VERSION, **told, **circumstances())
            Keeper(record, folder).done([TABLE])
            return made

    def _read(self, folder: Path) -> Descriptions | None:
        record = earlier(DescribeRecord, folder)
        if record is None:
            return None
        seen = compare_sources((folder, "describe"), record.sources, self._looks()) if record.sources else ()
        path = record.check(folder, TABLE)
        if not path.exists():
            raise DamagedError(f"{path} is gone")
        return Descriptions(read_table(path, DESCRIPTIONS, ""), record.reasons, (*record.notes, *seen))

    def _looks(self) -> dict[str, Look]:
        reference = TextSpec(source=self.reference, data_dir=self.texts.data_dir)
        return {
            "the model": lambda: model_identity(self.model),
            "the texts": lambda: {"texts_revision": texts_revision(self.texts)},
            "the reference": lambda: {"reference_revision": texts_revision(reference)},
        }

    def _sources(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for look in self._looks().values():
            # Texts read from the hub's cache while it cannot be asked have no revision to compare later.
            with suppress(UserError):
                found |= look()
        return found


def describe(job: Describe, report: Report) -> Descriptions:
    """Describe the prompts that a measurement with the same model and texts takes.

    What the model did not read is not described: of a prompt that was cut, the text of its tokens.
    """
    from layerscope.inputs.models import load_model
    from layerscope.inputs.prompts import select_prompts, tokenize
    from layerscope.inputs.reference import count_tokens, log_frequency, make_reference, overlap, rare_tokens
    from layerscope.inputs.text_features import detect_languages, first_kind, lexical_diversity, readability
    from layerscope.inputs.texts import load_texts

    report("loading the model", 0.0, 1.0)
    model = load_model(job.model)
    prompts = select_prompts(load_texts(job.texts), job.texts, model.tokenizer, model.context)
    texts = [
        str(model.tokenizer.decode(prompt.tokens, skip_special_tokens=True)) if prompt.note else prompt.text
        for prompt in prompts.prompts
    ]
    tokens = [prompt.tokens for prompt in prompts.prompts]
    losses, reasons = _losses(job.model, tokens, model.pad_id, report)
    corpus = [text.text for text in load_texts(TextSpec(source=job.reference, data_dir=job.texts.data_dir)).texts]
    reference = make_reference(job.reference, corpus, [prompt.text for prompt in prompts.prompts])
    counts = count_tokens(tokenize(reference.texts, model.tokenizer, None))
    bos = getattr(model.tokenizer, "bos_token_id", None)
    # The first token that is of the text, not of the tokenizer.
    special = set(model.tokenizer.all_special_ids)
    firsts = [next((token for token in ids if token not in special), ids[0]) for ids in tokens]
    words = [str(model.tokenizer.decode([first])) for first in firsts]
    table = pl.DataFrame(
        {
            "prompt_id": [prompt.id for prompt in prompts.prompts],
            "text": texts,
            "first_token": words,
            "tokens": [float(len(ids)) for ids in tokens],
            "characters": [float(len(text)) for text in texts],
            "lexical_diversity": [lexical_diversity(text) for text in texts],
            "readability": [readability(text) for text in texts],
            "loss": losses,
            "rare_tokens": rare_tokens(tokens, counts),
            "overlap": overlap(texts, reference),
            "language": detect_languages(texts),
            "bos": [bos is not None and ids[0] == bos for ids in tokens],
            "first_kind": [first_kind(word) for word in words],
            "first_frequency": log_frequency(firsts, counts),
        },
        schema=DESCRIPTIONS,
    )
    note = (
        f"the reference corpus for rare tokens and overlap is {reference.name!r}: {len(reference.texts):,} texts, "
        f"{counts.total():,} tokens, without the {reference.left_out} that are prompts themselves"
    )
    return Descriptions(table, reasons, (note,))


def _losses(
    spec: ModelSpec, tokens: Sequence[Sequence[int]], pad_id: int, report: Report
) -> tuple[Float[np.ndarray, " prompts"], dict[str, str]]:
    """Each prompt's loss under the model, or the reason why there is none."""
    from layerscope.states.likelihood import load_language_model, token_losses

    try:
        model = load_language_model(spec)
    except LayerscopeError as error:
        return np.full(len(tokens), np.nan), {"loss": str(error)}
    return token_losses(model, tokens, pad_id, lambda share: report("measuring", share, 1.0)), {}
