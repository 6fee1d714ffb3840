"""What every command has in common: its options, its examples, its output, the way to the gateway.

A command is a function with annotated parameters, as Typer reads them. If its first parameter is a
``Call`` it also has ``--json``, ``--url`` and the certificate, and if it is an ``Output`` the former. A parameter that is a dataclass stands for its fields.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from deploy.cli.output import Output
from deploy.cli.style import colored_help

if TYPE_CHECKING:
    import httpx

    from deploy.cli.client import AdminClient

_Handler = TypeVar("_Handler", bound=Callable[..., int])
_PLAIN: dict[str, Any] = {"rich_markup_mode": None, "add_completion": False}


@dataclass(frozen=True)
class Surroundings:
    """What a command line runs in: where it speaks, and how it reaches the gateway if not by TCP."""

    output: Output
    transport: httpx.BaseTransport | None = None


@dataclass(frozen=True)
class OutputOptions:
    """The option of every command that says something."""

    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False


@dataclass(frozen=True)
class CallOptions(OutputOptions):
    """The options of every command that asks the gateway."""

    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="TALLYGATE_ADMIN_URL",
            help="admin API, such as http://127.0.0.1:8443",
        ),
    ] = None
    cert: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="TALLYGATE_ADMIN_CERT",
            help="your certificate for an admin API with TLS (PEM)",
        ),
    ] = None
    cert_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", envvar="TALLYGATE_ADMIN_CERT_KEY", help="its key (PEM)"),
    ] = None
    ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="TALLYGATE_ADMIN_CA",
            help="who vouches for the admin API (PEM; default: whom this machine trusts)",
        ),
    ] = None


@dataclass(frozen=True)
class Call:
    """One invocation: where it speaks, and which gateway is meant."""

    output: Output
    options: CallOptions
    transport: httpx.BaseTransport | None = None

    def admin(self) -> AdminClient:
        """The admin API of the gateway that the user means."""
        # Imported here, because `--help` and the processes should not wait for an HTTP client.
        from deploy.cli.address import Address, complete  # noqa: PLC0415
        from deploy.cli.client import AdminClient  # noqa: PLC0415

        said = self.options
        address = complete(Address(said.url, said.ca, said.cert, said.cert_key))
        return AdminClient(address, self.transport)


class Command(TyperCommand):
    """A command whose help is coloured on a terminal."""

    def get_help(self, ctx: Any) -> str:
        return colored_help(super().get_help(ctx))

    def get_help_option(self, ctx: Any) -> Any:
        return _flag(super().get_help_option(ctx))


class Group(TyperGroup):
    """A noun whose help is coloured on a terminal."""

    def get_help(self, ctx: Any) -> str:
        return colored_help(super().get_help(ctx))

    def get_help_option(self, ctx: Any) -> Any:
        return _flag(super().get_help_option(ctx))


def _flag(option: Any) -> Any:
    """``--help`` that is absent is false and not nothing: for nothing, Typer loads a validator."""
    option.default = False
    return option


def noun(name: str, summary: str) -> typer.Typer:
    """A noun, whose verbs are added by ``command``."""
    return typer.Typer(name=name, help=summary, cls=Group, **_PLAIN)


def verbs() -> typer.Typer:
    """Commands that stand on their own."""
    return typer.Typer(cls=Group, **_PLAIN)


def command(app: typer.Typer, name: str, *examples: str) -> Callable[[_Handler], _Handler]:
    """Makes a function a command; its docstring is the help, which the examples end."""
    # What stands below \b is shown as it is.
    epilog = "\n".join(["\b", "Examples:", *(f"  {example}" for example in examples)])

    def register(handler: _Handler) -> _Handler:
        app.command(name, epilog=epilog, cls=Command)(_with_parameters(handler))
        return handler

    return register


def given(**values: Any) -> dict[str, Any]:
    """The values that were given."""
    return {name: value for name, value in values.items() if value is not None}


def _with_parameters(handler: Callable[..., int]) -> Callable[..., int]:
    """The handler as Typer calls it: one parameter per option."""
    parameters = list(inspect.signature(handler, eval_str=True).parameters.values())

    @wraps(handler)
    def invoke(context: typer.Context, **options: Any) -> int:
        values: dict[str, Any] = {}
        for parameter in parameters:
            kind = parameter.annotation
            if kind is Call:
                values[parameter.name] = _call(context.obj, _taken(CallOptions, options))
            elif kind is Output:
                values[parameter.name] = _output(context.obj, _taken(OutputOptions, options))
            elif is_dataclass(kind):
                values[parameter.name] = _taken(kind, options)
            else:
                values[parameter.name] = options[parameter.name]
        return handler(**values)

    # What all commands have stands behind what is the command's own.
    own = sorted(parameters, key=lambda parameter: parameter.annotation in _SHARED)
    expanded = [one for parameter in own for one in _expanded(parameter)]
    context = inspect.Parameter("context", _KEYWORD, annotation=typer.Context)
    # mypy does not know the attribute by which inspect finds another signature.
    invoke.__signature__ = inspect.Signature([context, *expanded])  # type: ignore[attr-defined]
    return invoke


_SHARED: dict[Any, Any] = {Call: CallOptions, Output: OutputOptions}
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def _expanded(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    kind = _SHARED.get(parameter.annotation, parameter.annotation)
    if is_dataclass(kind):
        yield from _fields(kind)
    else:
        yield parameter.replace(kind=_KEYWORD)


def _fields(options: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(options, include_extras=True)
    for option in fields(options):
        yield inspect.Parameter(
            option.name, _KEYWORD, default=_default(option), annotation=hints[option.name]
        )


def _default(option: Field[Any]) -> Any:
    return inspect.Parameter.empty if option.default is MISSING else option.default


def _taken(kind: Any, options: dict[str, Any]) -> Any:
    return kind(**{option.name: options[option.name] for option in fields(kind)})


def _output(surroundings: Surroundings, options: OutputOptions) -> Output:
    return replace(surroundings.output, as_json=options.as_json)


def _call(surroundings: Surroundings, options: CallOptions) -> Call:
    return Call(_output(surroundings, options), options, surroundings.transport)
