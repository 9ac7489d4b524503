"""Questions of four choices by subject: from the hub or what stands in for it, from lm-eval itself, or from a file."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from layerscope.errors import RunFailedError, UserError, nearest, unknown
from layerscope.files.reading import expanded
from layerscope.inputs.files import Table, file_revision, open_table
from layerscope.inputs.hub import MOST_ROWS, HubName, hub_revision, read_hub, stand_in
from layerscope.mmlu.spec import MmluSpec
from layerscope.tasks.process import import_quietly

HUB = "cais/mmlu"
SOURCES = ("mmlu", "lm-eval-dev")
SUFFIXES = (".jsonl", ".csv", ".parquet")
LETTERS = "ABCD"
NEEDED = "`layerscope mmlu`"
"""What lm-eval is needed for."""
DEFAULT_SHOTS = 5
FEWEST = 2
"""Questions a subject needs: of one, nothing can be said about chance."""
EXAMPLES = Path("tasks", "mmlu", "flan_cot_fewshot")
"""Where lm-eval keeps MMLU's dev questions, as the examples of its chain-of-thought tasks."""
_DEV, _TEST = ("dev",), ("test", "", "None")
_ANSWERS = {sign: place for place, letter in enumerate(LETTERS) for sign in (letter, str(place))}
_CHOICES = re.compile(r"(.*)\n+\(A\)(.*?)\(B\)(.*?)\(C\)(.*?)\(D\)(.*)", re.DOTALL)
_ANSWER = re.compile(r"answer is \(([A-Z])\)\.?\s*$")


@dataclass(frozen=True)
class Question:
    """A question with four choices. `answer` is the place of the right one; `id` is unique within its subject."""

    id: str
    subject: str
    text: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class QuestionSet:
    """Questions that are asked (`test`) and answered examples (`dev`), by subject; `skipped` are ids with a reason."""

    test: Mapping[str, tuple[Question, ...]]
    dev: Mapping[str, tuple[Question, ...]]
    source: str
    revision: str
    skipped: tuple[tuple[str, str], ...] = ()


def load_questions(spec: MmluSpec) -> QuestionSet:
    """The questions that a spec names, all of those of its subjects, which are in alphabetic order.

    Raises:
        UserError: the source is unknown or not there, a column is missing, a row is no question of four choices, or a
            subject does not exist.
    """
    found = _read(spec)
    # A file is read more than once, so what was read is only known where it is the same before and after.
    if "sha256:" in found.revision and (now := questions_revision(spec)) != found.revision:
        raise UserError(
            f"questions {spec.questions!r} changed while they were read ({found.revision} -> {now}): run the same "
            "command again"
        )
    if not found.test:
        raise UserError(f"questions {found.source!r} hold examples (split dev) only: give questions to ask")
    wanted = sorted(found.test if spec.subjects is None else set(spec.subjects))
    for subject in wanted:
        if subject not in found.test:
            raise unknown("subject", subject, found.test)
    test, dev = ({subject: part.get(subject, ()) for subject in wanted} for part in (found.test, found.dev))
    return replace(found, test=test, dev=dev)


def choose_shots(spec: MmluSpec, questions: QuestionSet) -> tuple[int, bool]:
    """How many examples stand before a question, and whether they are other questions of its subject.

    Raises:
        UserError: there are not enough of them, or a subject has fewer than two questions.
    """
    asked, few = min((len(test), subject) for subject, test in questions.test.items())
    if asked < FEWEST:
        raise UserError(
            f"expected at least {FEWEST} questions a subject, got {asked} in {few!r}: of fewer, nothing can be said about "
            "chance; add questions or name the other subjects (--subjects)"
        )
    examples, fewest = min((len(dev), subject) for subject, dev in questions.dev.items())
    if spec.shots is None:
        return min(DEFAULT_SHOTS, examples), False
    if not any(questions.dev.values()):
        if asked <= spec.shots:
            raise UserError(
                f"expected more than {spec.shots} questions a subject, since the {spec.shots} examples are other "
                f"questions of it, got {asked} in {few!r}: use fewer shots"
            )
        return spec.shots, spec.shots > 0
    if examples < spec.shots:
        raise UserError(
            f"expected {spec.shots} examples (split dev) in every subject, got {examples} in {fewest!r}: use fewer shots"
        )
    return spec.shots, False


def questions_revision(spec: MmluSpec) -> str:
    """The revision that `load_questions` would give now, with no question read.

    Raises:
        UserError: the source is not there any more, or the hub cannot be asked.
    """
    if spec.questions == "mmlu":
        names = (HubName(HUB, config, split) for config, split in _hub_parts(spec.data_dir))
        return " ".join(dict.fromkeys(hub_revision(name, spec.data_dir) for name in names))
    if spec.questions == "lm-eval-dev":
        return f"lm-eval {importlib.metadata.version('lm-eval')}"
    return file_revision(expanded(spec.questions))


def lm_eval_folder() -> Path:
    """Where lm-eval is installed. Raises what `import_quietly` raises."""
    return Path(import_quietly("lm_eval", NEEDED).__file__).parent


def parse_example(question: str, target: str) -> dict[str, object] | str:
    """A question with its choices and answer from an example's two texts; the reason where it is not one of four."""
    parts = _CHOICES.fullmatch(question.strip())
    answer = _ANSWER.search(target)
    if parts is None or answer is None:
        return "its choices or its answer cannot be told apart"
    text, *choices = (part.strip() for part in parts.groups())
    if "(E)" in choices[-1] or answer[1] not in LETTERS:
        return "it has more than four choices"
    return {"question": text, "choices": choices, "answer": LETTERS.index(answer[1])}


def _read(spec: MmluSpec) -> QuestionSet:
    path = expanded(spec.questions)
    if spec.questions == "mmlu":
        return _from_hub(spec.data_dir)
    if spec.questions == "lm-eval-dev":
        return _from_lm_eval(spec)
    if path.suffix.lower() in SUFFIXES:
        revision = file_revision(path) if path.is_file() else ""
        return _by_subject(_of_table(open_table(path)), spec.questions, revision)
    if path.suffix or path.exists() or "/" in spec.questions:
        raise UserError(f"questions {spec.questions!r}: expected a file that ends in {', '.join(SUFFIXES)}")
    raise unknown("questions", spec.questions, SOURCES)


def _by_subject(
    questions: Iterable[tuple[Question, bool]], source: str, revision: str, skipped: Iterable[tuple[str, str]] = ()
) -> QuestionSet:
    test, dev = defaultdict[str, list[Question]](list), defaultdict[str, list[Question]](list)
    for question, is_example in questions:
        (dev if is_example else test)[question.subject].append(question)
    asked, examples = ({subject: tuple(listed) for subject, listed in part.items()} for part in (test, dev))
    return QuestionSet(asked, examples, source, revision, tuple(skipped))


def _from_lm_eval(spec: MmluSpec) -> QuestionSet:
    import yaml

    files = sorted((lm_eval_folder() / EXAMPLES).glob("mmlu_*.yaml"))
    if not files:
        raise RunFailedError(f"this lm-eval has no {EXAMPLES}: give the questions as a file (--questions FILE)")
    questions, skipped = [], []
    for file in files:
        subject = file.stem.removeprefix("mmlu_")
        samples = yaml.safe_load(file.read_text(encoding="utf-8"))["fewshot_config"]["samples"]
        for number, sample in enumerate(samples, 1):
            found = parse_example(sample["question"], sample["target"])
            if isinstance(found, str):
                skipped.append((f"{subject}/dev-{number}", found))
            else:
                questions.append((_question(f"dev-{number}", {"subject": subject, **found}, "lm-eval-dev"), False))
    return _by_subject(questions, "lm-eval-dev", questions_revision(spec), skipped)


def _hub_parts(data_dir: str | None) -> list[tuple[str, str]]:
    """The configs and splits to read: one config with all subjects, or, of a stand-in without it, one a subject."""
    root = stand_in(HUB, data_dir)
    if root is None:
        return [("all", "test"), ("all", "dev")]
    folders = sorted(child for child in root.iterdir() if child.is_dir())
    if not folders or any(folder.name == "all" for folder in folders):
        examples = any((root / "all" if folders else root).glob("dev.*"))
        return [("all", "test"), *([("all", "dev")] if examples else [])]
    return [(folder.name, split) for folder in folders for split in ("test", "dev") if any(folder.glob(f"{split}.*"))]


def _from_hub(data_dir: str | None) -> QuestionSet:
    questions, revisions = [], []
    for config, split in _hub_parts(data_dir):
        try:
            table, revision = read_hub(HubName(HUB, config, split), data_dir, MOST_ROWS)
        except UserError as error:
            raise UserError(
                f"{error}; or ask other questions: --questions lm-eval-dev, or a file of your own"
            ) from error
        revisions.append(revision)
        fixed = {"split": split} | ({} if config == "all" else {"subject": config})
        questions += list(_of_table(table, fixed))
    return _by_subject(questions, f"hub:{HUB}", " ".join(dict.fromkeys(revisions)))


def _of_table(table: Table, fixed: Mapping[str, str] | None = None) -> Iterator[tuple[Question, bool]]:
    given = dict(fixed or {})
    lettered = set(LETTERS) <= set(table.names) and "choices" not in table.names
    needed = [name for name in ("subject", "question", "choices", "answer") if name not in given]
    for name in needed:
        if name not in table.names and not (name == "choices" and lettered):
            close = nearest(name, table.names, most=1)
            hint = f"did you mean {close[0]!r} as {name!r}?" if close else f"add the column {name!r}"
            extra = " (or the choices as columns A, B, C, D)" if name == "choices" else ""
            raise UserError(
                f"questions {table.source!r} have no column {name!r}{extra} (columns: {', '.join(map(repr, table.names))}): "
                f"{hint}"
            )
    names = [name for name in (*needed, *LETTERS, "split") if name in table.names and name not in given]
    for place, found in enumerate(table.cells(names, None)):
        row = table.id(place)
        cells: dict[str, object] = {**dict(zip(names, found, strict=True)), **given}
        if lettered:
            cells["choices"] = [cells[letter] for letter in LETTERS]
        split = str(cells.get("split", "test"))
        if split not in (*_DEV, *_TEST):
            raise UserError(
                f"questions {table.source!r}, {row}: expected the split test (asked) or dev (examples), got {split!r}: "
                "rename it or remove the row"
            )
        yield _question(row, cells, table.source), split in _DEV


def _question(row: str, cells: Mapping[str, object], source: str) -> Question:
    where = f"questions {source!r}, {row}"
    for name in ("subject", "question"):
        if not isinstance(cells[name], str) or not str(cells[name]).strip():
            raise UserError(
                f"{where}: expected text in the column {name!r}, got {cells[name]!r}: mend or remove the row"
            )
    choices = cells["choices"]
    if isinstance(choices, str):
        try:
            choices = json.loads(choices)
        except ValueError as error:
            raise UserError(
                f'{where}: expected the choices as a JSON list, such as ["a", "b", "c", "d"], got {choices[:60]!r}: '
                "or give them as columns A, B, C, D"
            ) from error
    if not isinstance(choices, (list, tuple)) or len(choices) != len(LETTERS):
        got = (len(choices) if isinstance(choices, (list, tuple)) else 0) or type(choices).__name__
        raise UserError(
            f"{where}: expected {len(LETTERS)} choices, as MMLU's prompt has (A to D), got {got}: remove the row"
        )
    answer = _ANSWERS.get(str(cells["answer"]).strip().upper())
    if answer is None:
        raise UserError(
            f"{where}: expected the answer as a place from 0 to 3 or a letter from A to D, got {cells['answer']!r}, "
            "which is not among the choices: mend or remove the row"
        )
    subject = str(cells["subject"]).replace(" ", "_")
    return Question(row, subject, str(cells["question"]), tuple(map(str, choices)), answer)
