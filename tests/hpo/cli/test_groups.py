"""Options of the Python API as those of the command line."""

import dataclasses
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from hpo.api.options import DataOptions, Location, MachineOptions, ModelOptions, SearchOptions
from hpo.cli.groups import grouped

GROUPS = (DataOptions, ModelOptions, SearchOptions, MachineOptions, Location)


@pytest.mark.parametrize("group", GROUPS)
def test_defaults_are_those_of_python(group: Any) -> None:
    assert parsed(group) == group()


def test_spellings_of_the_command_line() -> None:
    words = ["--no-retrain", "--cache-size", "1.5", "--timeout", "1h30m", "--nice", "7"]
    machines = parsed(MachineOptions, *words)

    assert machines == MachineOptions(retrain=False, cache_bytes=3 * 2**29, timeout_s=5400.0, nice=7)
    assert parsed(SearchOptions, "--no-asha", "--sampler", "random") == SearchOptions(asha=False, sampler="random")


@pytest.mark.parametrize("words", [["--nice", "20"], ["--concurrency", "0"], ["--gpus-per-trial", "-1"]])
def test_values_out_of_range_are_refused(words: list[str]) -> None:
    result = CliRunner().invoke(app_of(MachineOptions, []), words)

    assert result.exit_code == 2
    assert f"Invalid value for '{words[0]}': Input should be" in result.output


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_is_explained(group: Any) -> None:
    text = CliRunner().invoke(app_of(group, []), ["--help"], env={"COLUMNS": "400"}).output

    assert text.count("\n  --") == len(dataclasses.fields(group)) + 1  # --help itself


def parsed(group: Any, *words: str) -> Any:
    kept: list[Any] = []
    result = CliRunner().invoke(app_of(group, kept), list(words))
    assert result.exit_code == 0, result.output
    return kept[0]


def app_of(group: Any, kept: list[Any]) -> typer.Typer:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)

    def command(*, given: Any) -> None:
        kept.append(given)

    command.__annotations__["given"] = group
    app.command()(grouped(command))
    return app
