"""What can go wrong, as types: a user's mistake, a model that does not fit, a run that failed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class LayerscopeError(Exception):
    """Base of every error layerscope raises on purpose. `exit_code` is what the command line ends with."""

    exit_code = 1


class UserError(LayerscopeError):
    """What was asked cannot be done as asked. The message says what was expected, what came, and what to do."""

    exit_code = 2


class UnsupportedModelError(UserError):
    """The model's parts cannot be found by the one rule, so any number would be a guess."""


class RunFailedError(LayerscopeError):
    """The work was valid but did not succeed: the machine, the disk or the model's numbers stood in the way."""


class DiskFullError(RunFailedError):
    """A disk has no room left: whatever else is tried there would fail too."""


class DamagedError(RunFailedError):
    """A file is there and may be read, but its content is not what was written or what it should be."""


def nearest(name: str, valid: Iterable[str], most: int = 3) -> list[str]:
    """The valid names closest to `name`, best first, at most `most` of them."""
    choices = sorted(valid)
    folded = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(name.lower(), folded, n=most, cutoff=0.4)
    return [folded[hit] for hit in found]


def unknown(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """The error for a name that is not among the valid ones; it names the nearest of them."""
    choices = sorted(valid)
    close = nearest(name, choices)
    hint = f"did you mean {', '.join(repr(c) for c in close)}?" if close else f"choose from {', '.join(choices)}"
    return UserError(f"unknown {kind} {name!r}: {hint}")


def missing_package(package: str, needed_for: str, *, no_deps: bool = False) -> UserError:
    """The error for a package that is not installed; it holds the pip command."""
    flag = "--no-deps " if no_deps else ""
    return UserError(f"{needed_for} needs the package {package!r}: run `pip install {flag}{package}`")


def lacking(error: ImportError, needed_for: str) -> UserError:
    """The error for an import that failed somewhere in a library, whose message may be a name or a whole sentence.

    A sentence that holds a pip command is right about it; a module's name is nearly always its package's.
    """
    text = " ".join(str(error).split())
    short = text.rstrip(".") if len(text) <= 200 else f"{text[:197]}..."
    command = re.search(r"pip install (?:-U |--upgrade )?([^`;)]+?)(?=[`;)]|\.?$|, | and )", text)
    if command:
        package = command.group(1).strip().strip("'\"")
        quoted = package if re.fullmatch(r"[\w.\- ]+", package) else f"'{package}'"
        return UserError(f"{needed_for} needs a package that is not installed ({short}): run `pip install {quoted}`")
    if error.name:
        return missing_package(error.name.partition(".")[0], needed_for)
    if re.fullmatch(r"[\w.\-]+", text):
        return missing_package(text, needed_for)
    return UserError(f"{needed_for} needs a package that is not installed: {short or type(error).__name__}")
