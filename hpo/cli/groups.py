"""Options of `hpo.api.options` as those of the command line: a command takes a group as one parameter.

`grouped` spreads a group over the command's signature, since typer knows no groups.
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer

from hpo.api.options import Help
from hpo.cli import completion
from hpo.errors import UsageError

T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def parse_duration(text: str) -> float:
    """Return a time such as ``90s``, ``45m``, ``8h`` or ``1h30m`` in seconds.

    Raises:
        UsageError: It is no such time.
    """
    match = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text)
    if not text or match is None:
        raise UsageError(f"--timeout {text}: a time such as 90s, 45m, 8h or 1h30m is needed.")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if not total:
        raise UsageError(f"--timeout {text}: no trial could begin; a time such as 90s, 45m, 8h or 1h30m is needed.")
    return float(total)


def _bytes(given: str | int) -> int:
    """Return gigabytes as bytes; typer passes defaults, which are bytes, through here, too."""
    return int(float(given) * 2**30) if isinstance(given, str) else given


_SPELLED: dict[str, dict[str, Any]] = {
    "dataset": {"autocompletion": completion.datasets},
    "trainable": {"autocompletion": completion.trainables},
    "asha": {"param_decls": ("--no-asha",), "help": "Stop no trial early."},
    "retrain": {"param_decls": ("--no-retrain",), "help": "Leave the held-out test alone."},
    "flip": {"param_decls": ("--no-flip",), "help": "Mirror no view."},
    "as_published": {"param_decls": ("--as-published",)},
    "deduplicate": {"param_decls": ("--deduplicate",)},
    "skip_bad_images": {"param_decls": ("--skip-bad-images",)},
    "cache_bytes": {
        "param_decls": ("--cache-size",),
        "parser": _bytes,
        "metavar": "GB",
        "show_default": "20",
    },
    "timeout_s": {"param_decls": ("--timeout",), "parser": parse_duration, "metavar": "TIME"},
}
"""Options whose spelling on the command line does not follow from their name and type."""


def grouped(command: Callable[..., T]) -> Callable[..., T]:
    """Return `command` with an option for each field of its parameters that are dataclasses."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in groups:
            parameters += _options(groups[parameter.name])
        else:
            hint = option(parameter.name, hints[parameter.name])
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hint))

    @functools.wraps(command)
    def spread(**given: Any) -> T:
        for name, group in groups.items():
            values = {field.name: given.pop(field.name) for field in dataclasses.fields(group)}
            given[name] = group(**{one: not value if _is_negated(one) else value for one, value in values.items()})
        return command(**given)

    # Typer reads both; typing.get_type_hints would follow __wrapped__ to the command's own.
    del spread.__wrapped__
    spread.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    spread.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return spread


def _options(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=not field.default if _is_negated(field.name) else field.default,
            annotation=option(field.name, hints[field.name]),
        )
        for field in dataclasses.fields(group)
    ]


def option(name: str, hint: Any) -> Any:
    """Return a parameter's annotation for typer: its `Help`, if it has one, as an option."""
    kind, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    described = next((note for note in notes if isinstance(note, Help)), None)
    if described is None:
        return hint
    spelled = {"help": described.text, **_SPELLED.get(name, {})}
    declarations = spelled.pop("param_decls", ())
    return Annotated[kind, typer.Option(*declarations, min=described.least, max=described.most, **spelled)]


def _is_negated(name: str) -> bool:
    return f"--no-{name}" in _SPELLED.get(name, {}).get("param_decls", ())
