"""The study of modes on tables where it is known which layers have two."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from layerscope.results.tables import PROMPTS
from layerscope.studies.experiments import modes
from layerscope.studies.findings import judge
from layerscope.studies.jobs import Results

N, LAYERS = 400, 9


def run_of(bimodal, seed=0, n=N):
    rng = np.random.default_rng(seed)
    label = rng.random(n) < 0.5
    parts = []
    for layer in range(LAYERS):
        values = 2 + rng.normal(0, 0.2, n) + (1.2 * label if layer in bimodal else 0)
        fixed = {"metric": "prompt_entropy", "variant": "paper", "alpha": 1.0, "readout": modes.READOUT}
        fixed |= {"positions": "all", "normalization": "none", "n_tokens": 20, "note": "", "layer": layer}
        table = {name: [value] * n for name, value in fixed.items()}
        parts.append(pl.DataFrame(table | {"prompt_id": [f"p{i}" for i in range(n)], "value": values}, schema=PROMPTS))
    record = SimpleNamespace(
        resolved=SimpleNamespace(n_layers=LAYERS - 1, n_prompts=n),
        spec=SimpleNamespace(texts=SimpleNamespace(source="t")),
    )
    return SimpleNamespace(prompts=pl.concat(parts), record=record)


class Runs(Results):
    """Results that hold stand-ins for runs."""

    def every(self, kind):
        return dict(self.found)


def outcome(**runs):
    return modes.analyse(modes.STUDY.spec("small", {"models": tuple(runs)}), Runs(dict(runs)))


@pytest.fixture(scope="module")
def three():
    return outcome(**{"two-modes": run_of({4, 5}), "one-mode": run_of(set(), 1), "mamba": run_of(set(), 2)})


def test_verdicts(three):
    found = {(one.claim_id, one.about): one for one in judge(three.tests)}
    assert found["bimodal", next(a for c, a in found if c == "bimodal" and a.startswith("two"))].verdict == "holds"
    assert found["bimodal-in-the-middle", "two-modes"].verdict == "holds"
    one = next(finding for (claim, about), finding in found.items() if claim == "bimodal" and about.startswith("one"))
    assert one.verdict == "does not hold"
    assert found["bimodal-in-the-middle", "one-mode"].note == "no layer has two modes"
    (ssm,) = [finding for (claim, _), finding in found.items() if claim == "ssm-not-bimodal"]
    assert ssm.verdict == "holds"


def test_sentences_name_the_layers(three):
    said = [note for note in three.notes if note.startswith("two-modes")]
    assert len(said) == 1
    assert "layers with two modes: 4, 5." in said[0]
    assert any(note.startswith("one-mode") and "one mode is not rejected at any layer" in note for note in three.notes)


def test_figures_show_every_layer_and_mark_those_with_two_modes(three):
    drawn = {drawing.name: drawing for drawing in three.figures}
    assert set(drawn) == {"dips", "modes-two-modes", "modes-one-mode", "modes-mamba"}
    # What a figure shows is written under its name, and would take the place of a table.
    assert not set(drawn) & set(three.tables)
    ridges = drawn["modes-two-modes"]
    axes = ridges.figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [str(layer) for layer in range(LAYERS)]
    assert axes.get_ylabel() == "layer (0 = embeddings)"
    assert len(axes.texts) == LAYERS
    marked = ridges.data.filter(pl.col("marked"))
    assert marked["layer"].unique().sort().to_list() == [4, 5]
    assert marked["split"].is_between(0.3, 0.7).all()
    # A line a layer, and the split of two of them.
    assert len(axes.lines) == LAYERS + 2
    dips = drawn["dips"].figure.axes[0]
    assert dips.get_ylabel() == "Hartigan's dip"
    # Three models and the dip of one mode.
    assert len(dips.lines) == 4


def test_too_few_prompts_are_said_not_computed():
    (test, _) = [*outcome(few=run_of({4}, n=150)).tests, None]
    assert test.estimate.note == "no dip test: 150 prompts, at least 200 are needed"
    assert np.isnan(test.estimate.value)


def test_densities_are_densities(three):
    data = next(drawing.data for drawing in three.figures if drawing.name == "modes-one-mode")
    for part in data.partition_by("layer"):
        assert part["place"].to_list() == pytest.approx(np.linspace(0, 1, modes.PLACES))
        assert (part["density"] > 0).all()
