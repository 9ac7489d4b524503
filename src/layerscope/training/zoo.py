"""The zoo: a small pair of models, trained once on this machine, whose checkpoints have names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from layerscope.errors import UserError, unknown
from layerscope.files.locks import LOCK, locked
from layerscope.files.writing import cannot_write, write_text
from layerscope.inputs.known_models import ZOO_MODELS, zoo_folder
from layerscope.inputs.revisions import revisions, step_of
from layerscope.inputs.wiki import wiki_revision
from layerscope.measuring.progress import Report, silent
from layerscope.results.contents import again
from layerscope.results.record import Keeper
from layerscope.results.resume import differences
from layerscope.training.card import card
from layerscope.training.corpus import Corpus, build_corpus
from layerscope.training.recipes import RECIPES, Recipe
from layerscope.training.record import ZooRecord, read_zoo_record
from layerscope.training.train import train_model

HELD_OUT = "held_out.jsonl"


@dataclass(frozen=True)
class ZooCheckpoint:
    """A checkpoint of a training run. `name` works everywhere a model name does."""

    step: int
    name: str
    folder: Path


def checkpoints(model: str) -> tuple[ZooCheckpoint, ...]:
    """The checkpoints of a zoo model, or of any folder of model folders that end in their step, by step.

    Args:
        model: a zoo name such as "zoo-neox", or a folder that holds step0, step1, ... or checkpoint-500, ...

    Returns:
        At least one checkpoint; those without a step in their name are left out.

    Raises:
        UserError: the model is not trained yet (the message holds the command), or the folder has no checkpoints.
    """
    known = ZOO_MODELS.get(model)
    folder = known.locate(None).parent if known else Path(model).expanduser()
    if not folder.is_dir():
        raise UserError(f"{unknown('zoo model', model, ZOO_MODELS)}; or give a folder of checkpoints")
    named = [ZooCheckpoint(step_of(name), f"{model}@{name}", path) for name, path in revisions(folder).items()]
    found = tuple(one for one in named if one.step >= 0)
    if not found:
        raise UserError(f"{folder} holds no checkpoints: expected model folders such as step0 or checkpoint-500 in it")
    return found


def train_zoo(
    names: Sequence[str], *, cache: Path | None = None, seed: int = 0, report: Report = silent
) -> tuple[ZooRecord, ...]:
    """Train models of the zoo that are not trained yet.

    A model's folder appears when the model is finished; what a killed run leaves is made again. On one
    kind of processor, with one set of package versions, a seed gives the same weights bit for bit.

    Args:
        names: zoo names.
        cache: the cache's folder in place of LAYERSCOPE_CACHE or ~/.cache/layerscope.
        seed: of the weights and of the order of the texts.
        report: called with (stage, done, total).

    Returns:
        The records, in the order of the names.

    Raises:
        UserError: an unknown name, or a model that was trained with other settings; the leads are not installed.
        RunFailedError: the disk is full, the training diverged, or a file of a finished model is damaged.
    """
    for name in names:
        if name not in RECIPES:
            raise unknown("zoo model", name, RECIPES)
    corpora: dict[tuple[object, ...], Corpus] = {}
    records = []
    for name in names:
        recipe = RECIPES[name].model_copy(update={"seed": seed})
        folder = zoo_folder(name, cache)
        record = _finished(folder, recipe)
        if record is None:
            key = (recipe.vocab, recipe.leads, recipe.window)
            report(f"preparing {name}", 0.0, 1.0)
            if key not in corpora:
                corpora[key] = build_corpus(recipe)
            report(f"preparing {name}", 1.0, 1.0)
            record = _train(name, recipe, corpora[key], folder, report)
        records.append(record)
    return tuple(records)


def _finished(folder: Path, recipe: Recipe) -> ZooRecord | None:
    record = read_zoo_record(folder)
    if record is None:
        if folder.exists():
            raise UserError(f"{folder} is there but was not made by `layerscope zoo train`: choose another --cache")
        return None
    try:
        texts = wiki_revision()
    except UserError:  # they are not installed any more
        texts = record.texts_revision
    others = {
        "with other settings": "; ".join(differences(record.recipe, recipe, ())),
        "on other texts": "" if texts == record.texts_revision else f"{record.texts_revision}, now {texts}",
    }
    for how, what in others.items():
        if what:
            raise UserError(
                f"{folder} holds a model that was trained {how} ({what}): choose another --cache or delete the folder"
            )
    gone = [step for step in recipe.checkpoints if f"step{step}" not in revisions(folder)]
    if gone:
        raise UserError(f"{folder} has lost its checkpoint step{gone[0]}: {again(folder, 'zoo')}")
    for name in record.files:
        record.check(folder, name)
    return record


def _train(name: str, recipe: Recipe, corpus: Corpus, folder: Path, report: Report) -> ZooRecord:
    unfinished = folder.with_name(f".{name}.unfinished")
    with locked(unfinished):
        # Another process may have finished it between the look and the lock.
        record = _finished(folder, recipe)
        if record is not None:
            return record
        # What a killed run left.
        for child in unfinished.iterdir():
            if child.is_dir():
                shutil.rmtree(child)
            elif child.name != LOCK:
                child.unlink()
        record = train_model(name, recipe, corpus, unfinished, report)
        rows = [{"id": lead.title, "text": lead.extract} for lead in corpus.held_out_leads]
        write_text(unfinished / HELD_OUT, "".join(json.dumps(row) + "\n" for row in rows))
        write_text(unfinished / "README.md", card(record))
        keeper = Keeper(record, unfinished)
        models = revisions(unfinished).items()
        keeper.done([HELD_OUT, *(f"{one}/{file.name}" for one, model in models for file in sorted(model.iterdir()))])
        (unfinished / LOCK).unlink()
        try:
            unfinished.rename(folder)
        except OSError as error:
            raise cannot_write(folder, error) from error
    return keeper.record
