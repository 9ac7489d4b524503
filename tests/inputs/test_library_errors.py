"""What a library raises becomes an error that says what was being done; what is no error passes."""

from __future__ import annotations

import pytest

from layerscope.errors import UnsupportedModelError, UserError
from layerscope.inputs.library_errors import said_as


def raise_inside(error):
    with said_as(lambda text, _: UserError(f"cannot do it: {text}")):
        raise error


class PanicException(BaseException):
    """As pyo3 has it: a panic is no Exception."""


@pytest.mark.parametrize(
    "kind", [ValueError, RuntimeError, RecursionError, MemoryError, ZeroDivisionError, PanicException]
)
def test_any_error_is_said_in_one_line(kind):
    with pytest.raises(UserError, match=r"^cannot do it: a b$") as raised:
        raise_inside(kind("a\n  b"))
    assert isinstance(raised.value.__cause__, kind)


def test_an_error_without_a_word_or_with_half_a_character_can_be_printed():
    with pytest.raises(UserError, match=r"cannot do it: KeyError$"):
        raise_inside(KeyError())
    with pytest.raises(UserError, match=r"cannot do it: \\ud800$"):
        raise_inside(ValueError("\ud800"))


@pytest.mark.parametrize("error", [UnsupportedModelError("said already"), KeyboardInterrupt(), SystemExit(3)])
def test_errors_of_our_own_and_wishes_to_stop_pass(error):
    with pytest.raises(type(error)) as raised:
        raise_inside(error)
    assert raised.value is error
