"""The bootstrap over tasks: t intervals in closed form, nested draws, and coverage of the set of best layers."""

import numpy as np
import pytest
from scipy import stats

from layerscope.picking.best import best_set
from layerscope.picking.resampling import at_layer, at_layers, at_random, resample
from layerscope.picking.scores import OwnScores, TaskScores


def made(values, experiments=None):
    values = np.asarray(values, dtype=float)
    experiments = tuple(experiments) if experiments else tuple(row[None] for row in values)
    layers = tuple(range(values.shape[1]))
    own = [
        OwnScores(layers, row, single, single[:, row.argmax()]) for row, single in zip(values, experiments, strict=True)
    ]
    return TaskScores(
        model="m",
        revision="r",
        readout="raw",
        positions="all",
        pooling="mean",
        n_blocks=values.shape[1] - 1,
        layers=layers,
        tasks=tuple(f"t{i}" for i in range(len(values))),
        values=values,
        experiments=experiments,
        own=tuple(own),
        left_out=(),
    )


def test_weights_are_tasks_drawn_with_replacement():
    resampling = resample(made(np.zeros((4, 3))), 200, 0)
    counts = np.hstack(resampling.weights)
    assert (counts.sum(axis=1) == 4).all()
    assert np.array_equal(counts, np.hstack(resample(made(np.zeros((4, 3))), 200, 0).weights))


def test_interval_of_a_difference_is_the_paired_t_interval():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(9, 5))
    scores = made(values)
    got = resample(scores, 20000, 1).estimate(at_layer(scores, 3) - at_layer(scores, 1))
    paired = stats.ttest_rel(values[:, 3], values[:, 1])
    low, high = paired.confidence_interval()
    assert got.value == pytest.approx((values[:, 3] - values[:, 1]).mean())
    assert (got.low, got.high) == pytest.approx((low, high), abs=0.03 * (high - low))
    assert got.p == pytest.approx(paired.pvalue, abs=0.02)


def test_contrasts_read_what_they_say():
    scores = made([[1.0, 2.0, 6.0], [4.0, 5.0, 0.0]])
    resampling = resample(scores, 100, 0)
    assert resampling.estimate(at_layer(scores, 1)).value == pytest.approx(3.5)
    assert resampling.estimate(at_layers(scores, [2, 0])).value == pytest.approx(5.0)
    assert resampling.estimate(at_random(scores)).value == pytest.approx(3.0)


def test_one_task_is_resampled_by_its_experiments_alone():
    single = np.random.default_rng(0).normal(size=(10, 3))
    scores = made(single.mean(axis=0)[None], [single])
    resampling = resample(scores, 20000, 0)
    assert resampling.units == 10
    got = resampling.estimate(at_layer(scores, 0))
    expected = stats.t.interval(0.95, 9, single[:, 0].mean(), stats.sem(single[:, 0]))
    assert (got.low, got.high) == pytest.approx(expected, abs=0.03)


def test_experiments_add_to_what_the_tasks_leave_open():
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(6, 3))
    spread = [row + rng.normal(size=(5, 3)) for row in centre]
    spread = [single - single.mean(axis=0) + row for single, row in zip(spread, centre, strict=True)]
    scores, plain = made(centre, spread), made(centre)
    wide = resample(scores, 4000, 0).estimate(at_layer(scores, 0))
    narrow = resample(plain, 4000, 0).estimate(at_layer(plain, 0))
    assert wide.high - wide.low > narrow.high - narrow.low


def test_one_task_without_experiments_has_no_interval_and_no_set():
    scores = made([[0.1, 0.9]])
    resampling = resample(scores, 100, 0)
    got = resampling.estimate(at_layer(scores, 1))
    assert got.value == pytest.approx(0.9)
    assert np.isnan([got.low, got.high, got.p]).all()
    assert best_set(resampling).members == ()
    assert np.isnan(best_set(resampling).most_lost).all()


def test_what_may_be_lost_is_the_largest_one_sided_t_bound_against_any_other_layer():
    values = np.random.default_rng(1).normal(size=(6, 4))
    got = best_set(resample(made(values), 20000, 0)).most_lost
    for layer in range(4):
        behind = np.delete(values - values[:, [layer]], layer, axis=1)
        bounds = behind.mean(axis=0) + stats.t.ppf(0.95, 5) * stats.sem(behind, axis=0)
        assert got[layer] == pytest.approx(bounds.max(), abs=0.05)
    assert best_set(resample(made(values[:, :1]), 100, 0)).most_lost == [0]
    behind_alike = made(np.column_stack([values[:, 0], values[:, 0] - 0.3]))
    assert best_set(resample(behind_alike, 100, 0)).most_lost == pytest.approx([0, 0.3])


def test_a_task_at_its_own_best_layer_is_read_whether_or_not_the_others_have_it():
    scores = made([[1.0, 2.0, 6.0], [4.0, 5.0, 0.0]])
    resampling = resample(scores, 100, 0)
    assert resampling.estimate(resampling.own_best()).value == pytest.approx(5.5)
    assert resampling.read(at_layer(scores, 1))[0] == pytest.approx([2.0])


def test_equal_layers_are_all_in_the_set_and_a_layer_behind_in_every_task_is_not():
    common = np.random.default_rng(0).normal(size=(6, 1))
    found = best_set(resample(made(np.hstack([common, common, common - 0.5])), 500, 0))
    assert found.members == (0, 1)


def test_the_best_observed_layer_is_always_in_the_set():
    rng = np.random.default_rng(0)
    for trial in range(20):
        values = rng.normal(size=(rng.integers(2, 12), 8))
        found = best_set(resample(made(values), 200, trial))
        assert values.mean(axis=0).argmax() in found.members


def correlated(rng, tasks, layers):
    """Task curves around a shared mean: smooth over layers, with levels of their own."""
    steps = rng.normal(size=(tasks, layers))
    curves = np.empty_like(steps)
    curves[:, 0] = steps[:, 0]
    for k in range(1, layers):
        curves[:, k] = 0.9 * curves[:, k - 1] + 0.44 * steps[:, k]
    return curves + 5 * rng.normal(size=(tasks, 1))


@pytest.mark.parametrize("tasks", [2, 5, 12])
@pytest.mark.parametrize("shape", ["flat", "hump", "two peaks"])
def test_the_set_holds_the_best_layer(tasks, shape):
    layers = 13
    truth = {
        "flat": np.zeros(layers),
        "hump": -8 * (np.linspace(0, 1, layers) - 0.5) ** 2,
        "two peaks": np.where(np.arange(layers) == 4, 1.02, np.where(np.arange(layers) == 9, 1.0, 0.0)),
    }[shape]
    rng = np.random.default_rng(3)
    hits = sum(
        int(truth.argmax()) in best_set(resample(made(truth + correlated(rng, tasks, layers)), 300, trial)).members
        for trial in range(150)
    )
    # 95 % nominal; below 88 % of 150 samples would be a z of -4.
    assert hits / 150 >= 0.88


def test_the_set_shrinks_with_more_tasks():
    truth = -8 * (np.linspace(0, 1, 13) - 0.5) ** 2
    rng = np.random.default_rng(0)
    sizes = [
        np.mean([len(best_set(resample(made(truth + correlated(rng, n, 13)), 300, i)).members) for i in range(20)])
        for n in (3, 8, 32)
    ]
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[2] < 7


@pytest.mark.parametrize("tasks", [3, 5, 10])
def test_intervals_cover_the_truth_with_few_tasks(tasks):
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        scores = made(correlated(rng, tasks, 6))
        got = resample(scores, 300, trial).estimate(at_layer(scores, 5) - at_layer(scores, 0))
        hits += got.low <= 0 <= got.high
    # 95 % nominal; below 90 % of 300 samples would be a z of -4.
    assert hits / 300 >= 0.90
