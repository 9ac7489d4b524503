"""The program `layerscope`: its verbs, and how mistakes, failures and Ctrl-C end it."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable

import typer
from typer.exceptions import Abort, TyperException

from layerscope.cli import export, lists, measure, mmlu, pick, relate, results, study, tasks, zoo
from layerscope.errors import LayerscopeError
from layerscope.wording import on_screen

STOPPED = 130
"""The exit code after Ctrl-C, as shells have it."""

# What is wrong with a path as it was typed, wherever it is met first.
_OF_A_PATH = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)
_OF_A_NAME = (errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS)

app = typer.Typer(
    name="layerscope",
    help="Run a language model once, see how good the representation is at every layer, and leave with the layer to use.",
    epilog="Example: layerscope measure smollm2-135m --texts wiki --out runs/smollm2",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
EXAMPLES: dict[Callable[..., None], str] = {
    measure.measure: "smollm2-135m --texts wiki --n 128 --metrics prompt_entropy,curvature --out runs/smollm2",
    tasks.tasks: "smollm2-135m --tasks Banking77Classification,STS15 --out runs/smollm2",
    mmlu.mmlu: "smollm2-135m --questions lm-eval-dev --out runs/smollm2-mmlu",
    pick.pick: "runs/smollm2",
    relate.relate: "runs/smollm2 --metrics prompt_entropy,curvature",
    export.export: "smollm2-135m --layer 9 --run runs/smollm2 --out my-encoder",
    study.study: "extremes --preset small --out studies",
    results.table: "runs/demo --metrics prompt_entropy,curvature",
    results.query: "\"select layer, value from layers where metric = 'curvature'\" runs/demo",
    results.report: "runs/demo --out report.html",
    lists.metrics: "",
    lists.models: "",
    lists.texts: "",
}
"""Every verb, in the order of --help, and what may follow it."""
for verb, words in EXAMPLES.items():
    app.command(epilog=f"Example: layerscope {verb.__name__} {words}".rstrip())(verb)
app.add_typer(zoo.app, name="zoo")


@app.callback()
def _program(debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error.")) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run the program and exit: 0 done, 1 failed, 2 the user's mistake, 130 Ctrl-C."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    # Accepted before and after the verb: people add it to the end of the command that failed.
    given = (["--debug"] if debug else []) + [word for word in given if word != "--debug"]
    sys.exit(_exit_code(given, debug=debug))


def _exit_code(arguments: list[str], *, debug: bool) -> int:
    try:
        command = typer.main.get_command(app)
        result = command.main(args=arguments, prog_name="layerscope", standalone_mode=False)
    except LayerscopeError as error:
        _trace(debug)
        return _say(str(error), error.exit_code)
    except (KeyboardInterrupt, Abort):
        return _stopped()
    except TyperException as error:
        hint = getattr(error, "ctx", None)
        where = f" (see `{hint.command_path} --help`)" if hint else ""
        return _say(f"{error.format_message()}{where}", 2)
    except BrokenPipeError:
        # The reader (head, less) has gone; what is left to flush must not raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        _trace(debug)
        if error.filename is None or not (isinstance(error, _OF_A_PATH) or error.errno in _OF_A_NAME):
            return _say(_unexpected(error), 1)
        named = f"{os.fsdecode(error.filename)} cannot be used ({error.strerror})"
        return _say(f"{named}: check the path, and that you may read and write there", 2)
    except Exception as error:  # noqa: BLE001
        _trace(debug)
        return _say(_unexpected(error), 1)
    # Typer turns Ctrl-C into an exit code of its own.
    return _stopped() if result == STOPPED else result if isinstance(result, int) else 0


def _stopped() -> int:
    return _say("stopped; what was finished is kept, run the same command to go on", STOPPED)


def _say(message: str, code: int) -> int:
    sys.stderr.write(f"layerscope: {on_screen(message)}\n")
    return code


def _trace(debug: bool) -> None:
    if debug:
        sys.stderr.write("".join(f"{on_screen(line)}\n" for line in traceback.format_exc().splitlines()))


def _unexpected(error: Exception) -> str:
    reason = " ".join(str(error).split()) or "no message"
    return f"unexpected {type(error).__name__}: {reason} (run again with --debug for the traceback)"
