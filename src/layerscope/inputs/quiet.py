"""The libraries underneath: silence while they work, and what they raise in words that say what was being done."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator

from layerscope.errors import LayerscopeError, UserError


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


@contextlib.contextmanager
def said_as(say: Callable[[str, BaseException], LayerscopeError]) -> Iterator[None]:
    """Raise `say(text, error)` in place of an error of a library; text is one line, and never empty."""
    try:
        yield
    except LayerscopeError:
        raise
    except BaseException as error:
        # A panic of a library in Rust is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        text = " ".join(str(error).split()).encode("utf-8", "backslashreplace").decode() or type(error).__name__
        raise say(text, error) from error


def refusing(what: str, advice: str) -> contextlib.AbstractContextManager[None]:
    """`said_as` for what the user may mend: WHAT (what the library says): ADVICE."""
    return said_as(lambda text, _: UserError(f"{what} ({text[:200]}): {advice}"))
