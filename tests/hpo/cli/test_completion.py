"""What the shell completes, in a real bash, and the examples that ``--help`` ends with."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from hpo.cli.main import app

COMMAND = typer.main.get_command(app)
EXAMPLES = [
    (name, line.strip())
    for name, command in COMMAND.commands.items()  # type: ignore[attr-defined]
    if command.epilog
    for line in command.epilog.splitlines()[2:]
]


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_an_example_is_understood(name: str, line: str) -> None:
    program, command, *words = shlex.split(line.rpartition("|")[2])

    assert (program, command) == ("hpo", name)
    COMMAND.commands[name].make_context(name, words)  # type: ignore[attr-defined]


def test_every_command_for_studies_has_examples() -> None:
    assert {name for name, _ in EXAMPLES} == set(COMMAND.commands) - {"cluster"}  # type: ignore[attr-defined]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_studies_backbones_datasets_and_trainables(tmp_path: Path) -> None:
    for name in ("pets-a", "pets-b", "other"):
        (tmp_path / "studies" / name).mkdir(parents=True)
        (tmp_path / "studies" / name / ".study").touch()
    (tmp_path / "studies" / "pets-of-somebody").mkdir()
    program = tmp_path / "hpo"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m hpo "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    script = """
        eval "$(hpo --show-completion bash)"
        complete_of() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _hpo_completion hpo
            echo "${COMPREPLY[@]}"
        }
        complete_of hpo resume pets
        complete_of hpo run --backbone resnet1
        complete_of hpo run --dataset d
        complete_of hpo run --trainable s
        complete_of hpo embed pets
        complete_of hpo embed --backbone small
        complete_of hpo embed --dataset ci
    """
    path = f"{tmp_path}:{os.environ['PATH']}"

    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "SHELL": "/bin/bash"},
        capture_output=True,
        text=True,
        check=True,
    )

    studies = "pets-a pets-b"
    assert done.stdout.splitlines() == [studies, "resnet18", "digits", "simclr-pretrain", studies, "small:", "cifar10"]
