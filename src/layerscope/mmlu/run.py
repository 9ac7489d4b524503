"""ask_mmlu(): from a spec to accuracy per subject, entropy per subject and layer, and how the two go together."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from layerscope.config import ModelSpec
from layerscope.errors import DamagedError, UserError
from layerscope.files.locks import in_folder, locked
from layerscope.files.reading import sums_of
from layerscope.files.writing import inside, make_folder
from layerscope.inputs.identity import model_identity
from layerscope.inputs.models import load_model
from layerscope.inputs.prompts import Skipped
from layerscope.measuring.blocks import Block, BlockStore, remove_blocks
from layerscope.measuring.forward import split_blocks
from layerscope.measuring.plan import Plan, make_plan
from layerscope.measuring.progress import Report, silent, step
from layerscope.measuring.summary import prompt_tables
from layerscope.mmlu import tables
from layerscope.mmlu.forward import ask_block
from layerscope.mmlu.guessing import Guessing, judge_answers
from layerscope.mmlu.harness import Asked, Harness
from layerscope.mmlu.head import load_head
from layerscope.mmlu.questions import NEEDED, QuestionSet, choose_shots, load_questions, questions_revision
from layerscope.mmlu.record import MmluRecord, ResolvedQuestions
from layerscope.mmlu.spec import MmluSpec
from layerscope.mmlu.subjects import MIN_SUBJECTS
from layerscope.results import resume
from layerscope.results.contents import again
from layerscope.results.record import Keeper, ResolvedModel, circumstances, package_versions, read_record
from layerscope.results.tables import read_table, write_table
from layerscope.tasks.process import import_quietly


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
    import_quietly("lm_eval.evaluator", NEEDED)
    with locked(out):
        before = resume.earlier(MmluRecord, out, spec=spec)
        notes: tuple[str, ...] = ()
        if before is None or before.status != "done":
            _ask_locked(spec, out, report, before)
        else:
            # They are hashed, nothing is loaded.
            looks: dict[str, resume.Look] = {
                "the model": lambda: model_identity(spec.model),
                "the questions": lambda: {"questions_revision": questions_revision(spec)},
            }
            with step(report, "looking at the model and questions"):
                notes = resume.compare_sources((out, "mmlu"), dict(before.resolved), looks)
            notes += resume.other_packages(before.packages, package_versions("lm-eval"))
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
    found = {name: _read(record, folder, name) for name in tables.TABLES}
    guessing = judge_answers(found["questions"], permutations=record.spec.permutations, seed=record.spec.seed)
    return MmluRun(path=folder, record=record, **found, guessing=guessing, notes=notes)


def _read(record: MmluRecord, folder: Path, name: str) -> pl.DataFrame:
    made = name in tables.MADE_OF_TABLES
    advice = "run the same `layerscope mmlu` command again, which makes it again" if made else again(folder, "mmlu")
    return read_table(record.check(folder, tables.file_of(name), advice), tables.TABLES[name], advice)


def _mend(record: MmluRecord, out: Path, report: Report) -> None:
    """Make the tables that are made of others again, where they are damaged or were not written."""
    files = [tables.file_of(name) for name in tables.MADE_OF_TABLES]
    try:
        if all(record.check(out, file).exists() for file in files):
            return
    except DamagedError:
        pass
    _relate(record, {name: _read(record, out, name) for name in ("questions", "entropies")}, out, report)
    Keeper(record, out).update(files={**record.files, **sums_of(out, files)})


def _relate(record: MmluRecord, found: Mapping[str, pl.DataFrame], out: Path, report: Report) -> None:
    with step(report, "relating"):
        for name, table in tables.tables_of(record, **found).items():
            write_table([table], tables.TABLES[name], out / tables.file_of(name))


def _ask_locked(spec: MmluSpec, out: Path, report: Report, before: MmluRecord | None) -> None:
    # What is wrong with the questions is said before a model is loaded.
    questions = load_questions(spec)
    if len(questions.test) < MIN_SUBJECTS:
        raise UserError(
            f"expected at least {MIN_SUBJECTS} subjects, since a correlation over fewer says nothing, got "
            f"{len(questions.test)} ({', '.join(questions.test)}): ask more subjects"
        )
    shots, from_asked = choose_shots(spec, questions)
    harness = Harness(questions, shots, from_asked, spec.limit, spec.seed)
    start = time.perf_counter()
    with step(report, "loading the model"):
        model = load_model(spec.model)
        head = load_head(model)
        facts = ResolvedModel.facts(model, model_identity(spec.model))
    loaded = time.perf_counter()
    with step(report, "building the prompts"):
        asked = harness.ask(model.tokenizer)
    context = min((c for c in (model.context, spec.context) if c is not None), default=None)
    plan = make_plan(spec.run_spec(context)).for_model(model.n_layers, len(asked))
    lengths = [len(one.tokens) for one in asked]
    rows = split_blocks(lengths, spec.block_size)
    resolved = ResolvedQuestions(
        **facts | {"context": context},
        questions_revision=questions.revision,
        shots=shots,
        examples="none" if not shots else "other questions" if from_asked else "split dev",
        n_subjects=len(questions.test),
        n_questions=len(asked),
        n_blocks=len(rows),
        prompts_sha256=resume.hash_of(
            (one.subject, one.question.id, one.tokens, one.letters, one.question.answer) for one in asked
        ),
    )
    if before is not None:
        resume.refuse_other_inputs(out, "mmlu", before.resolved, resolved)
    record = MmluRecord(
        spec=spec,
        resolved=resolved,
        skipped=tuple(Skipped(prompt_id=name, reason=why) for name, why in questions.skipped),
        warnings=(*model.warnings, *_warnings(questions, asked, context)),
        **circumstances(model, before) | {"packages": package_versions("lm-eval")},
    )
    keeper = Keeper(record, out, before)
    keeper.spend("load", loaded - start)
    keeper.spend("prompts", time.perf_counter() - loaded)
    store = BlockStore(out, rows, resume.fingerprint(MmluRecord.FREE, spec, resolved))

    def ask(rows: Sequence[int], done: Callable[[float], None]) -> Block:
        return ask_block(plan, model, head, [asked[row] for row in rows], done)

    with keeper.working():
        keeper.update()
        with keeper.stage("blocks"):
            remade = store.make(lengths, report, ask)
        with keeper.stage("scoring"), step(report, "scoring"):
            found = _write(plan, harness, asked, store)
        with keeper.stage("relating"):
            _relate(keeper.record, found, out, report)
        keeper.done(map(tables.file_of, tables.TABLES), warnings=(*keeper.record.warnings, *remade))


def _write(plan: Plan, harness: Harness, asked: Sequence[Asked], store: BlockStore) -> dict[str, pl.DataFrame]:
    letters, out = store.letters(), store.folder
    questions = tables.question_table(asked, letters, harness.score(asked, letters), plan.spec.texts.context)
    make_folder(inside(out, "mmlu"))
    write_table([questions], tables.QUESTIONS, out / tables.file_of("questions"))
    written = out / tables.file_of("entropies")
    names = {name: questions[name] for name in ("question_id", "subject")}
    write_table(prompt_tables(plan, store, names), tables.ENTROPIES, written)
    return {"questions": questions, "entropies": read_table(written, tables.ENTROPIES, again(out, "mmlu"))}


def _warnings(questions: QuestionSet, asked: Sequence[Asked], context: int | None) -> Iterator[str]:
    for name, why in questions.skipped:
        yield f"1 question of {questions.source} left out: {name}, {why}"
    stands = Counter((one.subject, one.question.text, one.question.choices) for one in asked)
    twice = stands.total() - len(stands)
    if twice:
        yield f"{twice} questions stand more than once and are counted each time"
    cut = sum(context is not None and len(one.tokens) > context for one in asked)
    if cut:
        yield f"{cut} of {len(asked)} prompts were longer than {context} tokens and lost their beginning"
