"""Views: the same in any order, thread and process, and no global state is touched."""

import concurrent.futures
import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerscope.config import ViewSpec
from layerscope.inputs.augmentations import make_views

FOX = "The quick brown fox jumps over the lazy dog."
TEXTS = [FOX, "Matrix entropy measures how many directions the tokens of a prompt use.", "don't stop, it's fine"]
SPEC = ViewSpec(views=4)


@pytest.fixture(scope="module", autouse=True)
def _nlpaug():
    # the first import takes seconds: not inside a test that hypothesis times
    make_views(FOX, "warm", SPEC)


def test_views_do_not_depend_on_order_or_on_who_else_draws():
    forward = {text: make_views(text, text, SPEC) for text in TEXTS}
    random.random()
    np.random.random()  # noqa: NPY002
    backward = {text: make_views(text, text, SPEC) for text in reversed(TEXTS)}
    assert forward == backward


def test_views_are_the_same_in_every_thread():
    jobs = [(text, f"{number}") for number in range(8) for text in TEXTS]
    alone = [make_views(*job, SPEC) for job in jobs]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: make_views(*job, SPEC), jobs))
    assert together == alone


def test_a_new_process_makes_the_same_views_quietly_and_leaves_the_global_generators_alone():
    # one process for all of this, because the import takes seconds
    code = (
        "import json, random, sys, numpy as np\n"
        "from layerscope.config import ViewSpec\n"
        "from layerscope.inputs.augmentations import make_views\n"
        "assert not {'nlpaug', 'pandas', 'torch', 'transformers'} & set(sys.modules), 'heavy imports are not lazy'\n"
        "states = random.getstate(), np.random.get_state()[1].tolist()\n"
        f"views = make_views({FOX!r}, 'fox', ViewSpec(views=4))\n"
        "assert states == (random.getstate(), np.random.get_state()[1].tolist()), 'not even by the first import'\n"
        "random.seed(7); np.random.seed(7)\n"
        f"assert views == make_views({FOX!r}, 'fox', ViewSpec(views=4))\n"
        "print(json.dumps(views))\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4321"}
    command = [sys.executable, "-W", "error", "-c", code]
    out = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert out.returncode == 0, out.stderr
    assert out.stderr == ""
    assert tuple(json.loads(out.stdout)) == make_views(FOX, "fox", SPEC)


def test_more_views_leave_the_first_ones_as_they_are():
    assert make_views(FOX, "fox", ViewSpec(views=16))[:4] == make_views(FOX, "fox", SPEC)


def test_views_differ_between_views_prompts_and_seeds():
    other_seed = make_views(FOX, "fox", ViewSpec(views=4, view_seed=1))
    views = make_views(FOX, "fox", SPEC) + make_views(FOX, "cat", SPEC) + other_seed
    assert len(set(views)) == 12
    assert FOX not in views


LONG = " ".join(f"word{letter * 4}{number:03}" for number in range(20) for letter in "abcdefghij")


def test_an_augmentation_changes_at_most_ten_words_of_a_long_text():
    for name in ("split", "char", "keyboard"):
        (view, *_) = make_views(LONG, "long", ViewSpec(augmentations=(name,)))
        changed = len(set(LONG.split()) - set(view.split()))
        assert changed == 10, name


def test_strength_is_the_share_of_words_of_a_short_text():
    text = " ".join(LONG.split()[:10])
    for strength, expected in ((0.1, 1), (0.5, 5), (1.0, 10)):
        (view, *_) = make_views(text, "short", ViewSpec(augmentations=("split",), strength=strength))
        assert len(set(text.split()) - set(view.split())) == expected
        assert view.replace(" ", "") == text.replace(" ", "")


def test_keyboard_replaces_characters_by_neighbours_on_the_keyboard():
    views = make_views("kkkk " * 8, "k", ViewSpec(augmentations=("keyboard",), strength=1.0, views=8))
    seen = set("".join(views)) - {" "}
    assert seen <= set("kiomjlIOMJLK,.<>8907*()&ua;'nU")
    assert len(seen - {"k"}) >= 3


@pytest.mark.parametrize("text", ["", " ", "\n\t", "a", "a b c", "!", "?! ...", "\x00", "12 34"])
def test_texts_without_a_long_word_keep_their_characters(text):
    for view in make_views(text, "short", SPEC):
        assert "".join(view.split()) == "".join(text.split())


def test_other_scripts_are_augmented_or_kept():
    for text in ("表征是否重要", "представления важны", "表 征", "🙂🙂🙂🙂"):
        views = make_views(text, text, SPEC)
        assert len(views) == 4
        assert all(views)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=80), views=st.integers(2, 3), strength=st.sampled_from([0.05, 0.3, 1.0]))
def test_any_text_gives_as_many_views_as_asked_and_none_empty(text, views, strength):
    made = make_views(text, "any", ViewSpec(views=views, strength=strength))
    assert len(made) == views
    assert all(isinstance(view, str) and (view.strip() or view == text) for view in made)


def test_golden_view_does_not_move():
    """Made with make_views(FOX, "fox", ViewSpec(views=4))[0], nlpaug 1.1.11, Python 3.11."""
    assert make_views(FOX, "fox", SPEC)[0] == "The qui ck bt83h fox juA4w o ver the la zy dog."
