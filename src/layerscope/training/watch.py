"""watch.json: which steps of a training run were measured, what that cost, and what went wrong."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from layerscope.files.writing import make_folder, whole_file

WATCH = "watch.json"


class WatchedStep(BaseModel):
    """One look at the model."""

    model_config = ConfigDict(frozen=True)

    step: int
    folder: str
    seconds: float = 0.0
    training_seconds: float = 0.0
    """Since training began, at the start of this look."""
    reason: str = ""
    """What went wrong; "" where nothing did."""
    same_as: int | None = None
    """An earlier step with the same weights: training changed nothing in between, or the weights are not this step's."""

    def after(self, seconds: float, training_seconds: float) -> WatchedStep:
        """The same with its times."""
        return self.model_copy(update={"seconds": round(seconds, 3), "training_seconds": round(training_seconds, 3)})


class Watch(BaseModel):
    """All looks of a training run."""

    model_config = ConfigDict(frozen=True)

    steps: tuple[WatchedStep, ...] = ()

    @property
    def measured(self) -> frozenset[int]:
        """The steps that were looked at, with or without success."""
        return frozenset(step.step for step in self.steps)

    @property
    def seconds(self) -> float:
        """What all looks took."""
        return round(sum(step.seconds for step in self.steps), 3)

    def share(self) -> float:
        """The looks' share of the time from the start of training to the end of the last look, in [0, 1]."""
        whole = max((step.training_seconds + step.seconds for step in self.steps), default=0.0)
        return self.seconds / whole if whole > 0 else 0.0

    def adding(self, step: WatchedStep) -> Watch:
        """With one look more; an earlier one at the same step gives way."""
        kept = [other for other in self.steps if other.step != step.step]
        return Watch(steps=tuple(sorted([*kept, step], key=lambda one: one.step)))

    def until(self, step: int) -> Watch:
        """The looks of an earlier start that training goes on from at `step`."""
        return Watch(steps=tuple(one for one in self.steps if one.step <= step and step > 0))

    def write(self, folder: Path) -> None:
        """Write watch.json, whole or not at all."""
        make_folder(folder)
        content = {"seconds": self.seconds, "share_of_time": round(self.share(), 4), **self.model_dump()}
        with whole_file(folder / WATCH) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_watch(folder: Path) -> Watch:
    """The watch.json of a folder; an empty one where there is none that can be read: it only says what was done."""
    try:
        return Watch.model_validate({"steps": json.loads((folder / WATCH).read_text(encoding="utf-8"))["steps"]})
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return Watch()
