"""Silence for the libraries underneath while a model loads, and their settings back afterwards."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """No log lines and no progress bars of Hugging Face libraries inside the block; what was set before is restored.

    The layerscope logger and Python warnings are left alone: what layerscope has to say about a model it says in
    `LoadedModel.warnings` and in errors.
    """
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as hf_logging

    bars = hf_logging.is_progress_bar_enabled()
    hub_bars = not are_progress_bars_disabled()
    try:
        hf_logging.disable_progress_bar()
        if hub_bars:
            disable_progress_bars()
        with quiet_loggers("transformers", "huggingface_hub", "accelerate", "peft", "safetensors"):
            yield
    finally:
        if bars:
            hf_logging.enable_progress_bar()
        if hub_bars:
            enable_progress_bars()


@contextlib.contextmanager
def quiet_loggers(*names: str) -> Iterator[None]:
    """No log lines of these loggers inside the block."""
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Nothing on sys.stderr inside the block: for a progress bar that no setting of its library turns off."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield
