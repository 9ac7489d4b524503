"""Questions of four choices by subject: from the hub or what stands in for it, from lm-eval itself, or from a file."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from layerscope.errors import UserError, nearest, unknown
from layerscope.files.reading import expanded
from layerscope.inputs.files import Table, file_revision, read_table
from layerscope.inputs.hub import MOST_ROWS, HubName, hub_revision, read_hub, stand_in
from layerscope.mmlu.dev_questions import LETTERS, dev_questions
from layerscope.mmlu.spec import MmluSpec

HUB = "cais/mmlu"
SOURCES = ("mmlu", "lm-eval-dev")
SUFFIXES = (".jsonl", ".csv", ".parquet")
DEFAULT_SHOTS = 5
FEWEST = 2
"""Questions a subject needs: of one, nothing can be said about chance."""
_DEV, _TEST = ("dev",), ("test", "", "None")


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
    """Questions that are asked (`test`) and answered examples (`dev`), by subject in alphabetic order."""

    test: Mapping[str, tuple[Question, ...]]
    dev: Mapping[str, tuple[Question, ...]]
    source: str
    revision: str
    skipped: tuple[tuple[str, str], ...] = ()


def load_questions(spec: MmluSpec) -> QuestionSet:
    """The questions that a spec names, all of those of its subjects.

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
    test: dict[str, list[Question]] = {}
    dev: dict[str, list[Question]] = {}
    for question, is_example in found.questions:
        (dev if is_example else test).setdefault(question.subject, []).append(question)
    if not test:
        raise UserError(f"questions {found.source!r} hold examples (split dev) only: give questions to ask")
    wanted = sorted(test) if spec.subjects is None else sorted(dict.fromkeys(spec.subjects))
    for subject in wanted:
        if subject not in test:
            raise unknown("subject", subject, test)
    return QuestionSet(
        test={subject: tuple(test[subject]) for subject in wanted},
        dev={subject: tuple(dev.get(subject, ())) for subject in wanted},
        source=found.source,
        revision=found.revision,
        skipped=found.skipped,
    )


def choose_shots(spec: MmluSpec, questions: QuestionSet) -> tuple[int, bool]:
    """How many examples stand before a question, and whether they are other questions of its subject.

    Raises:
        UserError: there are not enough of them, or a subject has fewer than two questions.
    """
    few = min(questions.test, key=lambda subject: len(questions.test[subject]))
    if len(questions.test[few]) < FEWEST:
        raise UserError(
            f"expected at least {FEWEST} questions a subject, got {len(questions.test[few])} in {few!r}: of fewer, "
            "nothing can be said about chance; add questions or name the other subjects (--subjects)"
        )
    examples = {subject: len(dev) for subject, dev in questions.dev.items()}
    fewest = min(examples, key=lambda subject: examples[subject])
    if spec.shots is None:
        return min(DEFAULT_SHOTS, examples[fewest]), False
    if not any(examples.values()):
        if len(questions.test[few]) <= spec.shots:
            raise UserError(
                f"expected more than {spec.shots} questions a subject, since the {spec.shots} examples are other "
                f"questions of it, got {len(questions.test[few])} in {few!r}: use fewer shots"
            )
        return spec.shots, spec.shots > 0
    if examples[fewest] < spec.shots:
        raise UserError(
            f"expected {spec.shots} examples (split dev) in every subject, got {examples[fewest]} in {fewest!r}: use "
            "fewer shots"
        )
    return spec.shots, False


@dataclass(frozen=True)
class _Found:
    questions: Sequence[tuple[Question, bool]]
    source: str
    revision: str
    skipped: tuple[tuple[str, str], ...] = ()


def _read(spec: MmluSpec) -> _Found:
    path = expanded(spec.questions)
    if spec.questions == "mmlu":
        return _from_hub(spec.data_dir)
    if spec.questions == "lm-eval-dev":
        return _from_lm_eval()
    if path.suffix.lower() in SUFFIXES:
        revision = file_revision(path) if path.is_file() else ""
        return _Found(list(_of_table(read_table(path))), spec.questions, revision)
    if path.suffix or path.exists() or "/" in spec.questions:
        raise UserError(f"questions {spec.questions!r}: expected a file that ends in {', '.join(SUFFIXES)}")
    raise unknown("questions", spec.questions, SOURCES)


def _from_lm_eval() -> _Found:
    questions, skipped = [], []
    for subject, row, found in dev_questions():
        if isinstance(found, str):
            skipped.append((f"{subject}/{row}", found))
        else:
            questions.append((_question(row, {"subject": subject, **found}, "lm-eval-dev"), False))
    return _Found(questions, "lm-eval-dev", _lm_eval_revision(), tuple(skipped))


def questions_revision(spec: MmluSpec) -> str:
    """The revision that `load_questions` would give now, with no question read.

    Raises:
        UserError: the source is not there any more, or the hub cannot be asked.
    """
    if spec.questions == "mmlu":
        names = (HubName(HUB, config, split) for config, split in _hub_parts(spec.data_dir))
        return " ".join(dict.fromkeys(hub_revision(name, spec.data_dir) for name in names))
    if spec.questions == "lm-eval-dev":
        return _lm_eval_revision()
    return file_revision(expanded(spec.questions))


def _lm_eval_revision() -> str:
    return f"lm-eval {importlib.metadata.version('lm-eval')}"


def _hub_parts(data_dir: str | None) -> list[tuple[str, str]]:
    """The configs and splits to read: one config with all subjects, or, of a stand-in without it, one a subject."""
    root = stand_in(HUB, data_dir)
    folders = [] if root is None else sorted(child for child in root.iterdir() if child.is_dir())
    if root is None or any(folder.name == "all" for folder in folders) or not folders:
        parts = [("all", "test"), ("all", "dev")]
        if root is not None:
            home = root / "all" if folders else root
            parts = [part for part in parts if part[1] == "test" or any(home.glob("dev.*"))]
        return parts
    return [(folder.name, split) for folder in folders for split in ("test", "dev") if any(folder.glob(f"{split}.*"))]


def _from_hub(data_dir: str | None) -> _Found:
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
    return _Found(questions, f"hub:{HUB}", " ".join(dict.fromkeys(revisions)))


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
    subject, text = (_text(cells[name], name, where) for name in ("subject", "question"))
    choices = _choices(cells["choices"], where)
    return Question(row, subject.replace(" ", "_"), text, choices, _answer(cells["answer"], where))


def _text(cell: object, name: str, where: str) -> str:
    if not isinstance(cell, str) or not cell.strip():
        raise UserError(f"{where}: expected text in the column {name!r}, got {cell!r}: mend or remove the row")
    return cell


def _choices(cell: object, where: str) -> tuple[str, ...]:
    found: object = cell
    if isinstance(cell, str):
        try:
            found = json.loads(cell)
        except ValueError as error:
            raise UserError(
                f'{where}: expected the choices as a JSON list, such as ["a", "b", "c", "d"], got {cell[:60]!r}: '
                "or give them as columns A, B, C, D"
            ) from error
    count = len(found) if isinstance(found, (list, tuple)) else 0
    if not isinstance(found, (list, tuple)) or count != len(LETTERS):
        raise UserError(
            f"{where}: expected {len(LETTERS)} choices, as MMLU's prompt has (A to D), got "
            f"{count or type(found).__name__}: remove the row"
        )
    return tuple(str(choice) for choice in found)


def _answer(cell: object, where: str) -> int:
    if isinstance(cell, str):
        letter = cell.strip().upper()
        if len(letter) == 1 and letter in LETTERS:
            return LETTERS.index(letter)
        cell = int(letter) if letter.isdecimal() else cell
    if isinstance(cell, int) and not isinstance(cell, bool) and 0 <= cell < len(LETTERS):
        return cell
    raise UserError(
        f"{where}: expected the answer as a place from 0 to 3 or a letter from A to D, got {cell!r}, which is not among "
        "the choices: mend or remove the row"
    )
