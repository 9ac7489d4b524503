"""Libraries are silent inside the block and as loud as before outside it."""

from __future__ import annotations

import logging
import sys

import pytest

from layerscope.inputs.quiet import quiet_libraries, quiet_stderr


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
