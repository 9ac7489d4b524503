"""ask_questions: from a spec to the answers and the metrics of every prompt, in blocks that survive an interruption."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import torch

from layerscope.errors import LayerscopeError, RunFailedError, UserError
from layerscope.files.locks import locked
from layerscope.files.writing import make_folder, whole_file
from layerscope.inputs.identity import model_identity
from layerscope.inputs.models import LoadedModel, load_model
from layerscope.measuring.blocks import StoredBlocks, block_path, write_block
from layerscope.measuring.forward import split_blocks
from layerscope.measuring.measure import Clock
from layerscope.measuring.plan import Plan, make_plan
from layerscope.measuring.progress import Report, silent
from layerscope.measuring.resume import compare_sources, other_packages, refuse_moved_model
from layerscope.mmlu.forward import Letters, ask_block
from layerscope.mmlu.harness import Answers, Asked, Harness, import_lm_eval
from layerscope.mmlu.head import Head, load_head
from layerscope.mmlu.questions import QuestionSet, choose_shots, load_questions, questions_revision
from layerscope.mmlu.record import (
    BLOCKS,
    TABLES,
    MmluRecord,
    ResolvedQuestions,
    earlier_questions,
    read_mmlu_record,
    refuse_other_inputs,
    write_mmlu_record,
)
from layerscope.mmlu.spec import MmluSpec
from layerscope.mmlu.tables import ENTROPIES, QUESTIONS, entropy_tables, question_table
from layerscope.results.record import Skipped, package_versions, source_commit
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
    record = read_mmlu_record(folder)
    if record.status != "done":
        why = f" ({record.reason})" if record.reason else ""
        raise UserError(f"{folder} is {record.status}{why}: run the same `layerscope mmlu` command to finish it")
    tables = folder / TABLES
    return AskedRun(
        folder,
        record,
        read_table(tables / "questions.parquet", QUESTIONS),
        read_table(tables / "entropies.parquet", ENTROPIES),
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
        earlier = earlier_questions(out, spec)
        notes: tuple[str, ...] = ()
        if earlier is None or earlier.status != "done":
            _Work(spec, plan, out, report, earlier).run(fewest_subjects)
        else:
            notes = _compare(earlier, out, report)
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
    return package_versions() | {"lm-eval": importlib.metadata.version("lm-eval")}


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
        clock = Clock(dict(self.earlier.timings) if self.earlier else {})
        # What is wrong with the questions is said before a model is loaded.
        questions = load_questions(self.spec)
        if len(questions.test) < fewest_subjects:
            raise UserError(
                f"expected at least {fewest_subjects} subjects, since a correlation over fewer says nothing, got "
                f"{len(questions.test)} ({', '.join(questions.test)}): ask more subjects"
            )
        shots, from_asked = choose_shots(self.spec, questions)
        harness = Harness(questions, shots, from_asked, self.spec.limit, self.spec.seed)
        with clock.stage("load"):
            self.report("loading the model", 0.0, 1.0)
            model = load_model(self.spec.model)
            head = load_head(model)
            identity = model_identity(self.spec.model)
            refuse_moved_model(model, identity["model_revision"])
            self.report("loading the model", 1.0, 1.0)
        with clock.stage("prompts"):
            self.report("building the prompts", 0.0, 1.0)
            asked = harness.ask(model.tokenizer)
            self.report("building the prompts", 1.0, 1.0)
        context = min((c for c in (model.context, self.spec.context) if c is not None), default=None)
        run_spec = self.plan.spec
        texts = run_spec.texts.model_copy(update={"context": context})
        plan = make_plan(run_spec.model_copy(update={"texts": texts})).for_model(model.n_layers, len(asked))
        blocks = split_blocks([len(one.tokens) for one in asked], self.spec.block_size)
        record = self._record(model, harness, asked, (context, len(blocks), identity["tokenizer_revision"]))
        with _failure_recorded(record, self.out, clock):
            write_mmlu_record(record, self.out)
            with clock.stage("blocks"):
                self._ask(plan, (model, head), asked, blocks)
            with clock.stage("scoring"):
                self.report("scoring", 0.0, 1.0)
                self._write(plan, harness, asked, blocks)
                self.report("scoring", 1.0, 1.0)
            done = {"status": "done", "timings": clock.seconds, "finished": _now()}
            write_mmlu_record(record.model_copy(update=done), self.out)
        shutil.rmtree(self.out / BLOCKS, ignore_errors=True)

    def _ask(
        self,
        plan: Plan,
        model_and_head: tuple[LoadedModel, Head],
        asked: Sequence[Asked],
        blocks: Sequence[Sequence[int]],
    ) -> None:
        make_folder(self.out / BLOCKS)
        weights = [sum(len(asked[row].tokens) for row in rows) for rows in blocks]
        total, through = float(sum(weights)), 0.0
        for index, rows in enumerate(blocks):
            if not block_path(self.out, index).exists():

                def inside(share: float, before: float = through, weight: int = weights[index]) -> None:
                    self.report("measuring", before + share * weight, total)

                block, letters = ask_block(plan, *model_and_head, [asked[row] for row in rows], inside)
                with whole_file(_letters_path(self.out, index)) as temporary, temporary.open("wb") as file:
                    np.save(file, letters)
                # The block comes second: where it stands, its letters do too.
                write_block(block, self.out, index)
            through += weights[index]
            self.report("measuring", through, total)

    def _write(self, plan: Plan, harness: Harness, asked: Sequence[Asked], blocks: Sequence[Sequence[int]]) -> None:
        letters = _stored_letters(self.out, blocks, len(asked))
        answers = [Answers(one[:, 0].tolist(), one[:, 1].astype(bool).tolist()) for one in letters]
        correct = harness.score(asked, answers)
        make_folder(self.out / TABLES)
        table = question_table(asked, letters, correct, plan.spec.texts.context)
        write_table([table], QUESTIONS, self.out / TABLES / "questions.parquet")
        parts = entropy_tables(plan, StoredBlocks(self.out, blocks), asked)
        write_table(parts, ENTROPIES, self.out / TABLES / "entropies.parquet")

    def _record(
        self, model: LoadedModel, harness: Harness, asked: Sequence[Asked], known: tuple[int | None, int, str]
    ) -> MmluRecord:
        context, n_blocks, tokenizer_revision = known
        questions = harness.questions
        resolved = ResolvedQuestions(
            model_revision=model.revision,
            questions_revision=questions.revision,
            shots=harness.shots,
            examples="none" if not harness.shots else "other questions" if harness.from_asked else "split dev",
            n_subjects=len(questions.test),
            n_questions=len(asked),
            n_layers=model.n_layers,
            dim=model.dim,
            context=context,
            device=str(model.device),
            dtype=str(model.dtype).removeprefix("torch."),
            n_blocks=n_blocks,
            prompts_sha256=_digest(asked),
            tokenizer_revision=tokenizer_revision,
        )
        packages = _packages()
        warnings = [*model.warnings, *_warnings(questions, asked, context)]
        if self.earlier is not None:
            refuse_other_inputs(self.out, self.earlier.resolved, resolved)
            if self.earlier.packages != packages:
                warnings.append("continued with other package versions than the run was started with")
        return MmluRecord(
            status="running",
            spec=self.spec,
            resolved=resolved,
            skipped=tuple(Skipped(prompt_id=name, n_tokens=0, reason=why) for name, why in questions.skipped),
            warnings=tuple(warnings),
            packages=packages,
            commit=source_commit(),
            machine=f"{torch.get_num_threads()} threads, {model.device}",
            started=self.earlier.started if self.earlier else _now(),
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


def _stored_letters(out: Path, blocks: Sequence[Sequence[int]], count: int) -> Letters:
    letters: Letters = np.full((count, 4, 2), np.nan)
    for index, rows in enumerate(blocks):
        path = _letters_path(out, index)
        try:
            letters[list(rows)] = np.load(path)
        except (OSError, ValueError, EOFError) as error:
            raise RunFailedError(
                f"{path} cannot be read ({error}): delete {block_path(out, index)} and run the same command, it is made "
                "again"
            ) from error
    return letters


def _letters_path(out: Path, index: int) -> Path:
    return out / BLOCKS / f"letters_{index:05d}.npy"


def _digest(asked: Sequence[Asked]) -> str:
    digest = hashlib.sha256()
    for one in asked:
        digest.update(repr((one.subject, one.question.id, one.tokens, one.letters, one.question.answer)).encode())
    return digest.hexdigest()


@contextmanager
def _failure_recorded(record: MmluRecord, out: Path, clock: Clock) -> Iterator[None]:
    """Leave the reason in mmlu.json when the work ends early. A kill leaves `running`; both can be continued."""
    try:
        yield
    except BaseException as error:
        reason = "stopped by Ctrl-C" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
        failed = record.model_copy(update={"status": "failed", "reason": reason, "timings": clock.seconds})
        try:
            write_mmlu_record(failed, out)
        except LayerscopeError as second:
            error.add_note(f"mmlu.json could not be updated either: {second}")
        raise


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
