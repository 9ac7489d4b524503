"""What the libraries underneath raise, whatever it is, in the words of an error that says what was being done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from layerscope.errors import LayerscopeError, UserError


@contextmanager
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


def refusing(what: str, advice: str) -> AbstractContextManager[None]:
    """`said_as` for what the user may mend: WHAT (what the library says): ADVICE."""
    return said_as(lambda text, _: UserError(f"{what} ({text[:200]}): {advice}"))
