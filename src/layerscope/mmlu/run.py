"""ask_mmlu(): from a spec to accuracy per subject, entropy per subject and layer, and how the two go together."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from layerscope.config import ModelSpec
from layerscope.errors import DamagedError, UserError
from layerscope.files.locks import in_folder, locked
from layerscope.files.reading import sums_of
from layerscope.files.writing import inside, make_folder
from layerscope.inputs.identity import model_identity
from layerscope.inputs.models import LoadedModel, load_model
from layerscope.inputs.prompts import Skipped
from layerscope.measuring.blocks import Block, BlockStore, remove_blocks
from layerscope.measuring.forward import split_blocks
from layerscope.measuring.plan import Plan, make_plan
from layerscope.measuring.progress import Report, silent
from layerscope.mmlu.forward import ask_block
from layerscope.mmlu.guessing import Guessing, judge_answers
from layerscope.mmlu.harness import Asked, Harness, import_lm_eval
from layerscope.mmlu.head import load_head
from layerscope.mmlu.questions import QuestionSet, choose_shots, load_questions, questions_revision
from layerscope.mmlu.record import MmluRecord, ResolvedQuestions
from layerscope.mmlu.spec import MmluSpec
from layerscope.mmlu.subjects import MIN_SUBJECTS
from layerscope.mmlu.tables import (
    ENTROPIES,
    MADE_OF_TABLES,
    QUESTIONS,
    TABLES,
    entropy_tables,
    file_of,
    question_table,
    tables_of,
)
from layerscope.results.contents import again
from layerscope.results.record import Keeper, ResolvedModel, circumstances, package_versions, read_record
from layerscope.results.resume import (
    compare_sources,
    earlier,
    fingerprint,
    hash_of,
    other_packages,
    refuse_other_inputs,
)
from layerscope.results.tables import read_table, write_table


@dataclass
class MmluRun:
    """A finished run.

    `scores`: a row a subject: accuracy with its interval, `from_letters` (what choosing each letter as often, but
    blindly, gives) and mean prompt length. `questions`: a row a question. `entropies`: a row a question, layer and
    number. `relations`: a row a layer, number and statistic (spearman, pearson, partial). `guessing`: whether the
    accuracies can be related to anything. `notes`: what was found when it was opened, such as questions that are not
    there any more.
    """

    path: Path
    record: MmluRecord
    scores: pl.DataFrame
    questions: pl.DataFrame
    entropies: pl.DataFrame
    relations: pl.DataFrame
    guessing: Guessing
    notes: tuple[str, ...] = ()


def ask_mmlu(
    model: str | ModelSpec,
    questions: str = "mmlu",
    *,
    out: str | Path | None = None,
    report: Report = silent,
    **options: object,
) -> MmluRun:
    """Ask a model MMLU's questions and relate its accuracy per subject to the entropy of the prompts at every layer.

    Args:
        model: a model name (see `layerscope models`), hub id, folder or .gguf file, or a ModelSpec.
        questions: mmlu, lm-eval-dev, or a .jsonl, .csv or .parquet file.
        out: the run's folder; the same call goes on after an interruption and only reads what is done. None: a
            temporary folder that lives as long as what is returned.
        report: called with (stage, done, total) as the work proceeds.
        **options: the other fields of MmluSpec: subjects, shots, limit, readouts, positions, ...

    Returns:
        The tables and the judgement.

    Raises:
        UserError: something asked for does not exist or does not fit; the message says what to do.
        RunFailedError: the machine or the disk stood in the way; the finished blocks are kept.
    """
    named = {"name": model} if isinstance(model, str) else model
    spec = MmluSpec.of({"model": named, "questions": questions, **options})
    return in_folder(out, lambda folder: mmlu_spec(spec, folder, report))


def mmlu_spec(spec: MmluSpec, out: Path, report: Report = silent) -> MmluRun:
    """`ask_mmlu` for a spec that is ready. Raises what `ask_mmlu` raises."""
    plan = make_plan(spec.run_spec())
    others = [key.metric.name for key in (*plan.pooled_keys, *plan.view_keys)]
    if others:
        raise UserError(f"{others[0]} has one value for all prompts together: choose metrics with one value a prompt")
    import_lm_eval()
    with locked(out):
        before = earlier(MmluRecord, out, spec=spec)
        notes: tuple[str, ...] = ()
        if before is None or before.status != "done":
            _Work(spec, plan, out, report, before).run()
        else:
            notes = _compare(before, out, report)
            _mend(before, out, report)
        remove_blocks(out)
        return open_mmlu(out, notes)


def open_mmlu(path: str | Path, notes: tuple[str, ...] = ()) -> MmluRun:
    """Open the folder of a finished run.

    Args:
        path: the folder.
        notes: what the run that is returned says about itself.

    Raises:
        UserError: it holds none, or it is not done.
        RunFailedError: its files are damaged.
    """
    folder = Path(path)
    record = read_record(MmluRecord, folder, done=True)
    tables = {name: _read(record, folder, name) for name in TABLES}
    guessing = judge_answers(tables["questions"], permutations=record.spec.permutations, seed=record.spec.seed)
    return MmluRun(path=folder, record=record, **tables, guessing=guessing, notes=notes)


def _read(record: MmluRecord, folder: Path, name: str) -> pl.DataFrame:
    made = name in MADE_OF_TABLES
    advice = "run the same `layerscope mmlu` command again, which makes it again" if made else again(folder, "mmlu")
    return read_table(record.check(folder, file_of(name), advice), TABLES[name], advice)


def _compare(record: MmluRecord, out: Path, report: Report) -> tuple[str, ...]:
    """What a reader of a finished run should know of its sources; they are hashed, nothing is loaded."""
    report("looking at the model and questions", 0.0, 1.0)
    looks = {
        "the model": lambda: model_identity(record.spec.model),
        "the questions": lambda: {"questions_revision": questions_revision(record.spec)},
    }
    notes = compare_sources((out, "mmlu"), dict(record.resolved), looks)
    report("looking at the model and questions", 1.0, 1.0)
    return (*notes, *other_packages(record.packages, _packages()))


def _mend(record: MmluRecord, out: Path, report: Report) -> None:
    """Make the tables that are made of others again, where they are damaged or were not written."""
    try:
        if all(record.check(out, file_of(name)).exists() for name in MADE_OF_TABLES):
            return
    except DamagedError:
        pass
    files = _relate(record, out, (_read(record, out, "questions"), _read(record, out, "entropies")), report)
    Keeper(record, out).update(files={**record.files, **sums_of(out, files)})


def _relate(record: MmluRecord, out: Path, tables: tuple[pl.DataFrame, pl.DataFrame], report: Report) -> list[str]:
    report("relating", 0.0, 1.0)
    for name, table in tables_of(record, *tables).items():
        write_table([table], TABLES[name], out / file_of(name))
    report("relating", 1.0, 1.0)
    return [file_of(name) for name in MADE_OF_TABLES]


def _packages() -> dict[str, str]:
    return package_versions("lm-eval")


@dataclass
class _Work:
    """One call of mmlu_spec."""

    spec: MmluSpec
    plan: Plan
    out: Path
    report: Report
    earlier: MmluRecord | None

    def run(self) -> None:
        # What is wrong with the questions is said before a model is loaded.
        questions = load_questions(self.spec)
        if len(questions.test) < MIN_SUBJECTS:
            raise UserError(
                f"expected at least {MIN_SUBJECTS} subjects, since a correlation over fewer says nothing, got "
                f"{len(questions.test)} ({', '.join(questions.test)}): ask more subjects"
            )
        shots, from_asked = choose_shots(self.spec, questions)
        harness = Harness(questions, shots, from_asked, self.spec.limit, self.spec.seed)
        start = time.perf_counter()
        self.report("loading the model", 0.0, 1.0)
        model = load_model(self.spec.model)
        head = load_head(model)
        facts = ResolvedModel.facts(model, model_identity(self.spec.model))
        self.report("loading the model", 1.0, 1.0)
        loaded = time.perf_counter()
        self.report("building the prompts", 0.0, 1.0)
        asked = harness.ask(model.tokenizer)
        self.report("building the prompts", 1.0, 1.0)
        context = min((c for c in (model.context, self.spec.context) if c is not None), default=None)
        texts = self.plan.spec.texts.model_copy(update={"context": context})
        plan = make_plan(self.plan.spec.model_copy(update={"texts": texts})).for_model(model.n_layers, len(asked))
        lengths = [len(one.tokens) for one in asked]
        rows = split_blocks(lengths, self.spec.block_size)
        resolved = self._resolved(facts | {"context": context}, harness, asked, len(rows))
        keeper = Keeper(self._record(model, questions, asked, resolved), self.out, self.earlier)
        keeper.spend("load", loaded - start)
        keeper.spend("prompts", time.perf_counter() - loaded)
        store = BlockStore(self.out, rows, fingerprint(MmluRecord.FREE, self.spec, resolved))

        def ask(rows: Sequence[int], done: Callable[[float], None]) -> Block:
            return ask_block(plan, model, head, [asked[row] for row in rows], done)

        with keeper.working():
            keeper.update()
            with keeper.stage("blocks"):
                remade = store.make(lengths, self.report, ask)
            with keeper.stage("scoring"):
                self.report("scoring", 0.0, 1.0)
                tables = self._write(plan, harness, asked, store)
                self.report("scoring", 1.0, 1.0)
            with keeper.stage("relating"):
                _relate(keeper.record, self.out, tables, self.report)
            keeper.done(map(file_of, TABLES), warnings=(*keeper.record.warnings, *remade))

    def _write(
        self, plan: Plan, harness: Harness, asked: Sequence[Asked], store: BlockStore
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        letters = store.letters()
        correct = harness.score(asked, letters)
        questions = question_table(asked, letters, correct, plan.spec.texts.context)
        make_folder(inside(self.out, "mmlu"))
        write_table([questions], QUESTIONS, self.out / file_of("questions"))
        written = self.out / file_of("entropies")
        write_table(entropy_tables(plan, store, asked), ENTROPIES, written)
        return questions, read_table(written, ENTROPIES, again(self.out, "mmlu"))

    def _resolved(
        self, facts: dict[str, object], harness: Harness, asked: Sequence[Asked], n_blocks: int
    ) -> ResolvedQuestions:
        resolved = ResolvedQuestions(
            **facts,
            questions_revision=harness.questions.revision,
            shots=harness.shots,
            examples="none" if not harness.shots else "other questions" if harness.from_asked else "split dev",
            n_subjects=len(harness.questions.test),
            n_questions=len(asked),
            n_blocks=n_blocks,
            prompts_sha256=hash_of(
                (one.subject, one.question.id, one.tokens, one.letters, one.question.answer) for one in asked
            ),
        )
        if self.earlier is not None:
            refuse_other_inputs(self.out, "mmlu", self.earlier.resolved, resolved)
        return resolved

    def _record(
        self, model: LoadedModel, questions: QuestionSet, asked: Sequence[Asked], resolved: ResolvedQuestions
    ) -> MmluRecord:
        return MmluRecord(
            spec=self.spec,
            resolved=resolved,
            skipped=tuple(Skipped(prompt_id=name, reason=why) for name, why in questions.skipped),
            warnings=(*model.warnings, *_warnings(questions, asked, resolved.context)),
            **circumstances(model, self.earlier) | {"packages": _packages()},
        )


def _warnings(questions: QuestionSet, asked: Sequence[Asked], context: int | None) -> list[str]:
    notes = [f"1 question of {questions.source} left out: {name}, {why}" for name, why in questions.skipped]
    stands = Counter((one.subject, one.question.text, one.question.choices) for one in asked)
    twice = sum(count - 1 for count in stands.values())
    if twice:
        notes.append(f"{twice} questions stand more than once and are counted each time")
    cut = sum(context is not None and len(one.tokens) > context for one in asked)
    if cut:
        notes.append(f"{cut} of {len(asked)} prompts were longer than {context} tokens and lost their beginning")
    return notes
