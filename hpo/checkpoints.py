"""Where trials' states are kept between epochs: a folder or any fsspec URL, one object a live trial."""

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import fsspec


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one study.

    A checkpoint is there whole or not at all: on a local disk it is written beside its place and renamed, and object
    stores show an object only when it is complete.
    """

    uri: str
    """A folder's path, or a URL that fsspec knows (``s3://``, ``sftp://``, ``memory://``)."""

    def put(self, number: int, blob: bytes) -> None:
        """Keep `blob` as the state of trial `number`, in place of an earlier one."""
        if "://" in self.uri:
            with fsspec.open(self._name(number), "wb") as file:
                file.write(blob)
            return
        path = Path(self._name(number))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
        try:
            with partial.open("wb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def get(self, number: int) -> bytes | None:
        """Return the state of trial `number`; None where none is kept (here)."""
        try:
            with fsspec.open(self._name(number), "rb") as file:
                blob: bytes = file.read()
                return blob
        except FileNotFoundError:
            return None

    def remove(self, number: int) -> None:
        """Forget the state of trial `number`, if there is one."""
        filesystem, path = fsspec.core.url_to_fs(self._name(number))
        if filesystem.exists(path):
            filesystem.rm_file(path)

    def _name(self, number: int) -> str:
        return f"{self.uri.rstrip('/')}/trial-{number:05d}.ckpt"
