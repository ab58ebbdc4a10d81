"""The files of a pretraining: the encoder, and beside it what an interrupted one continues from."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open

from hpo.errors import UsageError

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class PretrainFiles:
    """Where they lie."""

    encoder: Path
    """The result, absolute."""

    @property
    def checkpoint(self) -> Path:
        """The state after the last epoch; gone once the encoder is there."""
        return self.encoder.with_name(f"{self.encoder.name}.checkpoint")

    @property
    def lock(self) -> Path:
        """Held by the process that pretrains."""
        return self.encoder.with_name(f".{self.encoder.name}.lock")


def files_of(output: Path) -> PretrainFiles:
    """Return the files of a pretraining that writes `output`.

    Raises:
        UsageError: No encoder can be written there.
    """
    path = output.expanduser().absolute()
    if path.suffix != SUFFIX:
        raise UsageError(f"--output {output}: an encoder is a {SUFFIX} file; give its name that ending.")
    if path.is_dir():
        raise UsageError(f"--output {output}: is a folder; give the name of a file in it.")
    if not path.parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {path.parent}; make it first.")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"--output {output}: nothing can be written to {path.parent}; choose another folder.")
    return PretrainFiles(path)


@contextmanager
def owned(files: PretrainFiles) -> Iterator[None]:
    """Keep other processes from writing the same encoder.

    Raises:
        UsageError: Another process is writing it.
    """
    try:
        with FileLock(files.lock, timeout=0):
            try:
                yield
            finally:
                files.lock.unlink(missing_ok=True)
    except Timeout:
        raise UsageError(
            f"{files.encoder} is just being pretrained by another process; give another --output."
        ) from None


def write(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there whole, once it is on the disk."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def metadata(path: Path) -> dict[str, Any]:
    """Return what an encoder's file says of itself; empty of a file that says nothing, or is none."""
    try:
        with safe_open(path, "numpy") as file:
            return {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    except (SafetensorError, ValueError):
        return {}
