"""Specs as command line options: every field becomes an option, its description the help text."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from layerscope.config import ModelSpec, RunSpec, Spec, TextSpec, ViewSpec
from layerscope.errors import UserError
from layerscope.mmlu.spec import MmluSpec

# A bare field name says too little on a command line that mixes the fields of several specs.
FLAGS: dict[tuple[type[Spec], str], str] = {(TextSpec, "source"): "--texts"}
NESTED: set[tuple[type[Spec], str]] = {(RunSpec, "model"), (RunSpec, "texts"), (RunSpec, "views"), (MmluSpec, "model")}
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, no tables.")]

SpecType = TypeVar("SpecType", bound=Spec)

MEASURE_SPECS: tuple[type[Spec], ...] = (ModelSpec, TextSpec, ViewSpec, RunSpec)


def with_options(*specs: type[Spec]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb one option per field of `specs`; the verb receives them as the dict `given`.

    ModelSpec.name becomes the positional argument MODEL. The verb's own parameters stay as they are, and stand in the
    place of a field of the same name.
    """

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        own = {p.name: p for p in inspect.signature(verb, eval_str=True).parameters.values() if p.name != "given"}
        fields = {name: _parameter(spec, name, field) for spec in specs for name, field in _fields(spec)}

        def wrapper(**values: Any) -> None:  # noqa: ANN401
            given = {name: value for name, value in values.items() if name in fields}
            verb(given=given, **{name: value for name, value in values.items() if name in own})

        # __signature__ is what Typer reads; the wrapper itself takes anything.
        parameters = sorted((own | fields | own).values(), key=lambda parameter: parameter.name != "name")
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__doc__ = verb.__doc__
        wrapper.__name__ = verb.__name__
        return wrapper

    return decorate


def unset(flag: str, words: str) -> Any:  # noqa: ANN401
    """An option whose help shows no default: its words say what holds where it is not given."""
    return typer.Option(flag, help=words, show_default=False)


def build(spec: type[SpecType], given: dict[str, Any], **more: object) -> SpecType:
    """A spec from the options given; fields that were not given keep their defaults.

    Raises:
        UserError: a value is not valid; the message names the option.
    """
    values = {
        name: given[name]
        for name, _ in _fields(spec)
        if given.get(name) is not None and not (given[name] is False and spec.model_fields[name].default is False)
    }
    try:
        return spec(**values, **more)
    except ValidationError as error:
        raise UserError(explain(error, spec)) from error


def given_spec(given: dict[str, Any]) -> RunSpec:
    """The RunSpec that the options of `layerscope measure` describe."""
    return build(
        RunSpec, given, model=build(ModelSpec, given), texts=build(TextSpec, given), views=build(ViewSpec, given)
    )


def output_folder(out: Path | None, model: str, end: str = "") -> Path:
    """The folder of a run: the one that was given, else one named for its model."""
    return out or Path("runs") / f"{model.rstrip('/').replace('/', '--')}{end}"


def explain(error: ValidationError, spec: type[Spec]) -> str:
    """One sentence for the first problem pydantic found, with the option's name as it is typed."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else spec.__name__
    flag = FLAGS.get((spec, name), "--" + name.replace("_", "-"))
    return f"{flag}: {first['msg'][0].lower()}{first['msg'][1:]}, got {first['input']!r}"


def _fields(spec: type[Spec]) -> list[tuple[str, FieldInfo]]:
    return [(name, field) for name, field in spec.model_fields.items() if (spec, name) not in NESTED]


def _parameter(spec: type[Spec], name: str, field: FieldInfo) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    if (spec, name) == (ModelSpec, "name"):
        annotation = Annotated[str, typer.Argument(metavar="MODEL", help=field.description, show_default=False)]
        return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)
    flag = FLAGS.get((spec, name), "--" + name.replace("_", "-"))
    default = field.get_default(call_default_factory=True)
    base = _simple_type(field.annotation)
    option = unset(flag, f"{field.description}{_default_text(default)}")
    if base is bool:
        return inspect.Parameter(name, kind, default=default, annotation=Annotated[bool, option])
    # None stands for "not given", so that the default lives in the spec alone.
    return inspect.Parameter(name, kind, default=None, annotation=Annotated[base | None, option])


def _default_text(default: object) -> str:
    if default is None or default is False or default == ():
        return ""
    parts = default if isinstance(default, tuple) else (str(default),)
    shown = ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in parts)
    # Rich reads [x] as markup.
    return f" \\[{shown}]"


def _simple_type(annotation: Any) -> type:  # noqa: ANN401
    """The type that the command line parses; everything richer is text that the spec itself checks."""
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [part for part in get_args(annotation) if part is not type(None)]
        return _simple_type(inner[0])
    if get_origin(annotation) is Literal:
        return str
    return annotation if annotation in (bool, int, float) else str
