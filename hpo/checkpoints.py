"""Where trials' states are kept between epochs: a folder or any fsspec URL, one object a live trial."""

import errno
import os
import secrets
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import fsspec

from hpo.errors import NoSpaceError
from trainables.config import data_root

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one study.

    A checkpoint is there whole or not at all: on a local disk it is written beside its place and renamed, and object
    stores show an object only when it is complete.
    """

    uri: str
    """A folder's path, or a URL that fsspec knows (``s3://``, ``sftp://``, ``memory://``)."""

    def put(self, number: int, blob: bytes) -> None:
        """Keep `blob` as the state of trial `number`, in place of an earlier one.

        Raises:
            NoSpaceError: There is no room for it; the earlier one is still there.
        """
        try:
            if "://" in self.uri:
                with fsspec.open(self._name(number), "wb") as file:
                    file.write(blob)
            else:
                self._replace(number, blob)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            raise NoSpaceError(
                f"no room for the checkpoint of trial {number} ({len(blob)} bytes) in {self.uri}: {error.strerror}"
            ) from error

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
        for name in (self._name(number), self._partial(number)):
            filesystem, path = fsspec.core.url_to_fs(name)
            # Asking first would ask a listing that may be older than the file.
            with suppress(FileNotFoundError):
                filesystem.rm_file(path)

    def keep_only(self, numbers: Collection[int]) -> None:
        """Forget the states of all trials but `numbers`, which a kill may have left behind."""
        filesystem, folder = fsspec.core.url_to_fs(self.uri)
        filesystem.invalidate_cache()
        for path in filesystem.glob(f"{folder}/trial-*"):
            if int(path.rpartition("/trial-")[2].partition(".")[0]) not in numbers:
                filesystem.rm_file(path)

    def _replace(self, number: int, blob: bytes) -> None:
        partial = Path(self._partial(number))
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._name(number))
        finally:
            partial.unlink(missing_ok=True)

    def _partial(self, number: int) -> str:
        """One name a trial, so that what a kill left behind is written over by the next."""
        return f"{self._name(number)}.partial"

    def _name(self, number: int) -> str:
        return f"{self.uri.rstrip('/')}/trial-{number:05d}.ckpt"


@dataclass(frozen=True)
class CheckpointPlace:
    """Where the checkpoints of one study lie, as the driver and every machine see it."""

    study: str
    uri: str | None
    """A folder or a URL; None: the data folder of each machine, for its own trials."""
    shared: bool
    """Whether all machines read what one of them wrote."""
    data_dir: str | None = None

    @property
    def store(self) -> CheckpointStore:
        """The checkpoints as this machine sees them."""
        return CheckpointStore(self.uri or str(data_root(self.data_dir) / "checkpoints" / self.study))

    def keep_only(self, numbers: Collection[int]) -> None:
        """Forget the states of all trials but `numbers`, as far as the driver sees them."""
        if self.shared:
            self.store.keep_only(numbers)


def write_probe(uri: str, token: str, make_folder: bool) -> str:
    """Write a small file to a place for checkpoints, on whichever machine this runs, and return what tells it apart.

    Args:
        uri: A folder's path or a URL.
        token: What the driver looks for.
        make_folder: Whether a folder that is not there is made.

    Raises:
        OSError: It cannot be written there.
    """
    me = secrets.token_hex(8)
    if not make_folder and not Path(uri).parent.is_dir():
        raise FileNotFoundError(uri)
    with fsspec.open(f"{uri}/.probe-{token}-{me}", "wb") as file:
        file.write(me.encode())
    return me


def take_probes(uri: str, token: str) -> set[str]:
    """Return what tells the probes apart that this machine finds there, and remove them."""
    filesystem, folder = fsspec.core.url_to_fs(uri)
    filesystem.invalidate_cache()
    found = {path: path.rpartition("-")[2] for path in filesystem.glob(f"{folder}/.probe-{token}-*")}
    for path in found:
        with suppress(FileNotFoundError):
            filesystem.rm_file(path)
    return set(found.values())
