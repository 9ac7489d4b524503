"""pick.json: a run's one answer. Who asks first writes it, and whoever speaks of the run's layer reads it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from layerscope.errors import LayerscopeError, UserError
from layerscope.files.reading import read_json, read_sealed, write_sealed
from layerscope.picking.folder import RunFolder, digests, read_evidence, run_folder
from layerscope.picking.pick import SCHEMA_VERSION, Pick, choose_layer
from layerscope.picking.spec import MARGIN, By, PickSpec

PICK_FILE = "pick.json"
_WORDS = {"scores": "scores", "layers": "metrics"}
_ADVICE = "run `layerscope pick` again"


class _Head(BaseModel):
    """What every version of the file holds: of what is asked, version 0.1.0 kept `by` alone."""

    schema_version: int
    by: By
    layer: int | None
    asked: PickSpec | None = None
    scores_from: Path | None = None


def pick(
    run: RunFolder,
    *,
    scores: RunFolder | None = None,
    by: By | None = None,
    margin: float = MARGIN,
    resamples: int = 2000,
    seed: int = 0,
) -> Pick:
    """Which layer of a run's model to use. The answer is written to RUN/pick.json, which export and report read.

    Args:
        run: a run's folder, or a run that was opened; with scores (`layerscope tasks`), metrics (`measure`), or both.
        scores: the folder of the scores, where it is another one.
        by: scores: what `select_layer` recommends; metrics: what rules without labels choose (`apply_rules`); default:
            scores where there are some.
        margin: what the layer may lose against the best one, in the scores' unit: the earliest that is shown to lose no
            more is recommended, else the one with the highest average.
        resamples: bootstrap samples, at least 100.
        seed: seed of the resampling.

    Returns:
        The layer, the reasons in words, and the tables behind them.

    Raises:
        UserError: the folder does not hold what is needed, or it is asked for what there is not.
        RunFailedError: a file is damaged.
    """
    asked = PickSpec.of({"by": by, "margin": margin, "resamples": resamples, "seed": seed})
    return _write(choose_layer(read_evidence(run, scores), asked))


def recall_pick(run: RunFolder) -> Pick:
    """The answer in RUN/pick.json; where there is none yet, or it is about other tables, the layer is chosen and written.

    Chosen again it is with what was asked then, and a note says that it was, and whether the layer changed.

    Raises:
        UserError: the folder does not hold what is needed, or the folder of scores that was named is gone.
        RunFailedError: a file is damaged.
    """
    folder = run_folder(run)
    path = folder / PICK_FILE
    if not path.exists():
        return pick(folder)
    head = read_json(path, _Head, advice=_ADVICE, follow=False)
    if head.scores_from is not None and not head.scores_from.is_dir():
        raise UserError(f"{path} was made from the scores in {head.scores_from}, which is gone: {_ADVICE}")
    if head.schema_version < SCHEMA_VERSION:
        asked, why = head.asked or PickSpec(by=head.by), "was written by an earlier version"
    else:
        kept = read_sealed(path, Pick, version=SCHEMA_VERSION, since=SCHEMA_VERSION, advice=_ADVICE).model_copy(
            update={"path": folder}
        )
        now = digests(folder, kept.scores_path)
        changed = [word for name, word in _WORDS.items() if now[name] != kept.made_from.get(name)]
        if not changed:
            return kept
        asked, why = kept.asked, f"was made before the {' and '.join(changed)} changed"
    again = choose_layer(read_evidence(folder, head.scores_from), asked)
    moved = "" if again.layer == head.layer else f" instead of {head.layer}"
    return _write(again, f"{path} {why}: chosen again, layer {again.layer}{moved}")


def _write(picked: Pick, *news: str) -> Pick:
    """Write pick.json, whole or not at all; a folder that cannot be written is answered about all the same."""
    try:
        write_sealed(picked, picked.path / PICK_FILE)
    except LayerscopeError as error:
        cause = error.__cause__
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else error
        lost = f"{picked.path / PICK_FILE} was not written ({reason}): export and report choose the layer again"
        news = (*news, lost)
    return picked.model_copy(update={"news": news})
