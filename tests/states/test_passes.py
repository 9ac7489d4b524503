"""Works on the cores of a CPU: the same numbers as one after the other, and clean ends."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from tests.families import FAMILIES

from layerscope.config import ModelSpec
from layerscope.inputs.models import load_model
from layerscope.states.batches import make_batches
from layerscope.states.capture import capture
from layerscope.states.passes import run_passes, shares_cores, twins


@pytest.fixture(autouse=True)
def _two_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model(family_model):
    return family_model("llama")


def collect(model, batch, found, position):
    capture(model, batch, lambda layer, states: found.__setitem__((position, layer), states.clone()))


def test_every_work_is_done_once_and_named(model):
    done = []
    order = sorted(run_passes(model, [lambda _, number=number: done.append(number) for number in range(9)]))
    assert order == sorted(done) == list(range(9))
    assert list(run_passes(model, [])) == []


@pytest.mark.parametrize("name", FAMILIES)
def test_states_equal_those_of_one_pass_after_the_other(family_model, name):
    model = family_model(name)
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.randint(5, 90, (length,), generator=generator).tolist() for length in range(3, 27)]
    batches = make_batches(tokens, 64, model.pad_id)
    beside, alone = {}, {}
    list(run_passes(model, [partial(_collect, batch, beside, place) for place, batch in enumerate(batches)]))
    for place, batch in enumerate(batches):
        collect(model, batch, alone, place)
    assert beside.keys() == alone.keys()
    for key, states in alone.items():
        torch.testing.assert_close(beside[key], states, rtol=0, atol=1e-5)


@pytest.mark.arithmetic
@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, "float32") for name in FAMILIES), ("llama", "bfloat16"), ("bert", "bfloat16")]
)
def test_a_batch_has_the_same_bits_alone_and_beside_others_on_any_number_of_cores(
    family_model, family_folder, name, dtype
):
    model = family_model(name)
    if dtype == "bfloat16":
        model = load_model(ModelSpec(name=str(family_folder(name)), part=FAMILIES[name].part, dtype="bfloat16"))
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.randint(5, 90, (length,), generator=generator).tolist() for length in range(3, 20)]
    batches = make_batches(tokens, 40, model.pad_id)
    found = []
    for cores in (1, 2, 4):
        torch.set_num_threads(cores)
        beside, alone = {}, {}
        list(run_passes(model, [partial(_collect, batch, beside, place) for place, batch in enumerate(batches)]))
        for place in (0, len(batches) // 2):
            list(run_passes(model, [partial(_collect, batches[place], alone, place)]))
        found.append(beside)
        assert all(torch.equal(beside[key], states) for key, states in alone.items())
    assert all(torch.equal(one[key], states) for one in found for key, states in found[0].items())


def _collect(batch, found, place, model):
    collect(model, batch, found, place)


def test_twins_share_weights_and_nothing_else(model):
    (twin,) = twins(model, 1)
    assert twins(model, 1) == [twin]
    ours, theirs = dict(model.model.named_parameters()), dict(twin.model.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in ours)
    assert not {*model.model.modules()} & {*twin.model.modules()}
    assert {*twin.parts.blocks} <= {*twin.model.modules()}
    assert not twin.model.training


def test_works_beside_each_other_have_modules_of_their_own(model):
    meet = threading.Barrier(2, timeout=30)
    seen = []

    def work(mine):
        meet.wait()
        seen.append(mine.model)

    list(run_passes(model, [work, work]))
    assert seen[0] is not seen[1]


def test_an_error_ends_the_rest_and_reaches_the_caller(model):
    started = []

    def work(_, number):
        started.append(number)
        if number == 0:
            raise ValueError("the first one fails")
        time.sleep(0.01)

    with pytest.raises(ValueError, match="the first one fails"):
        list(run_passes(model, [partial(work, number=number) for number in range(200)]))
    assert len(started) < 200
    before = len(started)
    assert list(run_passes(model, [lambda _: None])) == [0]
    assert len(started) == before


def test_who_stops_reading_leaves_nothing_running(model):
    running = threading.Semaphore(0)
    works = [lambda _: running.release() for _ in range(50)]
    passes = run_passes(model, works)
    next(passes)
    passes.close()
    count = 0
    while running.acquire(blocking=False):
        count += 1
    assert not running.acquire(timeout=0.2)
    assert 1 <= count <= 50


def test_models_that_must_take_turns(model):
    assert shares_cores(model)
    assert not shares_cores(replace(model, fast_matmul=True))
    assert not shares_cores(replace(model, device=torch.device("meta")))
    spread = model.spec.model_copy(update={"device_map": "auto"})
    assert not shares_cores(replace(model, spec=spread))
    threads = []
    works = [lambda _: threads.append(threading.current_thread())] * 3
    list(run_passes(replace(model, fast_matmul=True), works))
    assert set(threads) == {threading.current_thread()}
