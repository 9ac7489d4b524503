"""Libraries are silent inside the block and as loud as before outside it; what they raise says what was being done."""

from __future__ import annotations

import logging
import sys

import pytest

from layerscope.errors import UnsupportedModelError, UserError
from layerscope.inputs.quiet import quiet_libraries, quiet_stderr, said_as


def test_levels_and_bars_come_back():
    from transformers.utils import logging as hf_logging

    logger = logging.getLogger("transformers")
    before, bars = logger.level, hf_logging.is_progress_bar_enabled()

    def fail():
        with quiet_libraries():
            assert not logging.getLogger("transformers.models").isEnabledFor(logging.ERROR)
            assert not hf_logging.is_progress_bar_enabled()
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert logger.level == before
    assert hf_logging.is_progress_bar_enabled() == bars


def test_our_own_logger_is_left_alone():
    with quiet_libraries():
        assert logging.getLogger("layerscope").isEnabledFor(logging.WARNING)


def test_stderr_comes_back(capsys):
    with quiet_stderr():
        print("bar", file=sys.stderr)
    print("ours", file=sys.stderr)
    assert capsys.readouterr().err == "ours\n"


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
