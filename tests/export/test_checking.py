"""The check finds what it is there to find."""

import numpy as np
import pytest

from layerscope.config import ModelSpec
from layerscope.errors import UnsupportedModelError
from layerscope.export.checking import MOST_ERROR, check_texts, encode_apart, our_vectors, relative_error, require_equal
from layerscope.export.spec import ExportSpec
from layerscope.inputs.models import load_model
from layerscope.inputs.prompts import tokenize


@pytest.fixture(scope="module")
def model(reader):
    return load_model(ModelSpec(name=str(reader)))


def test_texts_differ_in_length_and_one_is_too_long(model):
    texts = check_texts(model.tokenizer, 256)
    lengths = [len(ids) for ids in tokenize(texts, model.tokenizer, None)]
    assert len(set(lengths)) >= 12
    assert min(lengths) <= 5
    assert max(lengths) > 256
    assert check_texts(model.tokenizer, 256) == texts
    assert max(len(ids) for ids in tokenize(check_texts(model.tokenizer, 8192), model.tokenizer, None)) < 8192


@pytest.mark.parametrize("readout", ["raw", "normed"])
def test_our_vectors_are_the_means_of_states(readout, model, vectors_one_by_one):
    texts = ["Rain.", "A longer text than that.", "x"]
    tokens = tokenize(texts, model.tokenizer, 256)
    ours = our_vectors(model, tokens, ExportSpec(layer=2, readout=readout))
    assert ours == pytest.approx(vectors_one_by_one(model, texts, 2, readout), rel=1e-4, abs=1e-6)
    unit = our_vectors(model, tokens, ExportSpec(layer=2, readout=readout, normalize=True))
    assert np.linalg.norm(unit, axis=1) == pytest.approx(1)


def test_errors_are_relative_to_each_vector():
    ours = np.array([[600.0, 0], [0, 0.1], [1, 1]], np.float32)
    theirs = np.array([[600.6, 0], [0, 0.1001], [np.nan, 1]], np.float32)
    assert relative_error(ours, theirs) == pytest.approx([1e-3, 1e-3, np.inf], rel=1e-3)


def test_an_error_above_the_bound_is_refused_and_its_text_named():
    ours = np.ones((2, 4), np.float32)
    theirs = ours.copy()
    theirs[1] *= 1 + MOST_ERROR / 2
    assert 0 < require_equal(ours, theirs, ["a", "b"]) < MOST_ERROR
    theirs[1, 0] += 1e-3
    with pytest.raises(UnsupportedModelError, match=r"relative error 0.0005 at the text 'b'"):
        require_equal(ours, theirs, ["a", "b"])
    with pytest.raises(UnsupportedModelError, match="vectors of 3 numbers"):
        require_equal(ours, theirs[:, :3], ["a", "b"])


def test_ranges_of_lengths_are_encoded_apart():
    batches = []

    class Opened:
        def encode(self, texts, **_):
            batches.append(list(texts))
            return np.array([[float(len(text))] for text in texts])

    found = encode_apart(Opened(), ["a", "bbbbb", "cc", "dddd"], [3, None, 3, None])
    assert batches == [["a", "cc"], ["bbbbb", "dddd"]]
    assert found[:, 0].tolist() == [1, 5, 2, 4]
