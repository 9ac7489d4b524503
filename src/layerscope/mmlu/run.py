"""ask_questions: from a spec to the answers and the metrics of every prompt, in blocks that survive an interruption."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from layerscope.errors import UserError
from layerscope.files.locks import locked
from layerscope.files.writing import inside, make_folder
from layerscope.inputs.identity import model_identity
from layerscope.inputs.models import LoadedModel, load_model
from layerscope.measuring.blocks import Block, BlockStore
from layerscope.measuring.forward import split_blocks
from layerscope.measuring.plan import Plan, make_plan
from layerscope.measuring.progress import Report, silent
from layerscope.mmlu.forward import ask_block
from layerscope.mmlu.harness import Answers, Asked, Harness, import_lm_eval
from layerscope.mmlu.head import load_head
from layerscope.mmlu.questions import QuestionSet, choose_shots, load_questions, questions_revision
from layerscope.mmlu.record import (
    TABLES,
    MmluRecord,
    ResolvedQuestions,
)
from layerscope.mmlu.spec import MmluSpec
from layerscope.mmlu.tables import ENTROPIES, QUESTIONS, entropy_tables, question_table
from layerscope.results.contents import again
from layerscope.results.record import Keeper, ResolvedModel, Skipped, circumstances, package_versions, read_record
from layerscope.results.resume import (
    compare_sources,
    earlier,
    fingerprint,
    hash_of,
    mixed_packages,
    other_packages,
    refuse_moved_model,
    refuse_other_inputs,
)
from layerscope.results.tables import read_table, write_table


@dataclass(frozen=True)
class AskedRun:
    """A finished run of questions: one row a question in `questions`, one a question, layer and metric in `entropies`."""

    path: Path
    record: MmluRecord
    questions: pl.DataFrame
    entropies: pl.DataFrame
    notes: tuple[str, ...] = ()
    """What was found when it was opened, such as questions that are not there any more."""


def open_questions(path: str | Path) -> AskedRun:
    """Open the folder of a finished run.

    Raises:
        UserError: it holds none, or it is not done.
        RunFailedError: its files are damaged.
    """
    folder = Path(path)
    record = read_record(MmluRecord, folder)
    if record.status != "done":
        why = f" ({record.reason})" if record.reason else ""
        raise UserError(f"{folder} is {record.status}{why}: run the same `layerscope mmlu` command to finish it")
    return AskedRun(
        folder,
        record,
        read_table(record.check(folder, f"{TABLES}/questions.parquet"), QUESTIONS, again(folder, "mmlu")),
        read_table(record.check(folder, f"{TABLES}/entropies.parquet"), ENTROPIES, again(folder, "mmlu")),
    )


def ask_questions(spec: MmluSpec, out: Path, report: Report = silent, *, fewest_subjects: int = 1) -> AskedRun:
    """Ask a model questions and measure its layers on the same prompts, in one forward pass.

    Args:
        spec: what to ask and measure.
        out: the run's folder; the same call goes on after an interruption and only reads what is done.
        report: called with (stage, done, total) as the work proceeds.
        fewest_subjects: refuse to start with fewer.

    Returns:
        The finished run.

    Raises:
        UserError: something asked for does not exist or does not fit; the message says what to do.
        RunFailedError: the machine or the disk stood in the way; the finished blocks are kept.
    """
    plan = _plan(spec)
    import_lm_eval()
    with locked(out):
        before = earlier(MmluRecord, out, spec=spec)
        notes: tuple[str, ...] = ()
        if before is None or before.status != "done":
            _Work(spec, plan, out, report, before).run(fewest_subjects)
        else:
            notes = _compare(before, out, report)
        return replace(open_questions(out), notes=notes)


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


def _packages() -> dict[str, str]:
    return package_versions("lm-eval")


def _plan(spec: MmluSpec) -> Plan:
    plan = make_plan(spec.run_spec())
    others = [key.metric.name for key in (*plan.pooled_keys, *plan.view_keys)]
    if others:
        raise UserError(f"{others[0]} has one value for all prompts together: choose metrics with one value a prompt")
    return plan


@dataclass
class _Work:
    """One call of ask_questions."""

    spec: MmluSpec
    plan: Plan
    out: Path
    report: Report
    earlier: MmluRecord | None

    def run(self, fewest_subjects: int) -> None:
        # What is wrong with the questions is said before a model is loaded.
        questions = load_questions(self.spec)
        if len(questions.test) < fewest_subjects:
            raise UserError(
                f"expected at least {fewest_subjects} subjects, since a correlation over fewer says nothing, got "
                f"{len(questions.test)} ({', '.join(questions.test)}): ask more subjects"
            )
        shots, from_asked = choose_shots(self.spec, questions)
        harness = Harness(questions, shots, from_asked, self.spec.limit, self.spec.seed)
        start = time.perf_counter()
        self.report("loading the model", 0.0, 1.0)
        model = load_model(self.spec.model)
        head = load_head(model)
        identity = model_identity(self.spec.model)
        refuse_moved_model(model, identity["model_revision"])
        self.report("loading the model", 1.0, 1.0)
        loaded = time.perf_counter()
        self.report("building the prompts", 0.0, 1.0)
        asked = harness.ask(model.tokenizer)
        self.report("building the prompts", 1.0, 1.0)
        context = min((c for c in (model.context, self.spec.context) if c is not None), default=None)
        run_spec = self.plan.spec
        texts = run_spec.texts.model_copy(update={"context": context})
        plan = make_plan(run_spec.model_copy(update={"texts": texts})).for_model(model.n_layers, len(asked))
        lengths = [len(one.tokens) for one in asked]
        rows = split_blocks(lengths, self.spec.block_size)
        record = self._record(model, harness, asked, (context, len(rows), identity["tokenizer_revision"]))
        keeper = Keeper(record, self.out)
        keeper.spend("load", loaded - start)
        keeper.spend("prompts", time.perf_counter() - loaded)
        store = BlockStore(self.out, rows, fingerprint(MmluRecord.FREE, self.spec, record.resolved))

        def ask(rows: Sequence[int], done: Callable[[float], None]) -> Block:
            return ask_block(plan, model, head, [asked[row] for row in rows], done)

        with keeper.working():
            keeper.update()
            with keeper.stage("blocks"):
                again = store.make(lengths, self.report, ask)
            with keeper.stage("scoring"):
                self.report("scoring", 0.0, 1.0)
                files = self._write(plan, harness, asked, store)
                self.report("scoring", 1.0, 1.0)
            keeper.done(files, warnings=(*record.warnings, *again))
        store.remove()

    def _write(self, plan: Plan, harness: Harness, asked: Sequence[Asked], store: BlockStore) -> list[str]:
        letters = store.letters()
        answers = [Answers(one[:, 0].tolist(), one[:, 1].astype(bool).tolist()) for one in letters]
        correct = harness.score(asked, answers)
        make_folder(inside(self.out, TABLES))
        files = [f"{TABLES}/questions.parquet", f"{TABLES}/entropies.parquet"]
        write_table([question_table(asked, letters, correct, plan.spec.texts.context)], QUESTIONS, self.out / files[0])
        write_table(entropy_tables(plan, store, asked), ENTROPIES, self.out / files[1])
        return files

    def _record(
        self, model: LoadedModel, harness: Harness, asked: Sequence[Asked], known: tuple[int | None, int, str]
    ) -> MmluRecord:
        context, n_blocks, tokenizer_revision = known
        questions = harness.questions
        facts = {**ResolvedModel.facts(model, tokenizer_revision), "context": context}
        resolved = ResolvedQuestions(
            **facts,
            questions_revision=questions.revision,
            shots=harness.shots,
            examples="none" if not harness.shots else "other questions" if harness.from_asked else "split dev",
            n_subjects=len(questions.test),
            n_questions=len(asked),
            n_blocks=n_blocks,
            prompts_sha256=hash_of(
                (one.subject, one.question.id, one.tokens, one.letters, one.question.answer) for one in asked
            ),
        )
        if self.earlier is not None:
            refuse_other_inputs(self.out, "mmlu", self.earlier.resolved, resolved)
        record = MmluRecord(
            spec=self.spec,
            resolved=resolved,
            skipped=tuple(Skipped(prompt_id=name, n_tokens=0, reason=why) for name, why in questions.skipped),
            warnings=(*model.warnings, *_warnings(questions, asked, context)),
            timings=dict(self.earlier.timings) if self.earlier else {},
            **circumstances(model, self.earlier) | {"packages": _packages()},
        )
        return record.model_copy(update={"warnings": (*record.warnings, *mixed_packages(self.earlier, record))})


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
