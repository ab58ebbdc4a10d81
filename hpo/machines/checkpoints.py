"""Where trials' states are kept between epochs: a folder or any fsspec URL, one object per live trial."""

import dataclasses
import errno
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from hpo.errors import NoPlaceError, UsageError
from hpo.machines.nodes import each_node
from trainables.config import data_root

logger = logging.getLogger(__name__)

T = TypeVar("T")

Kind = Literal["trial", "final"]

OUTAGE_WAIT_S = 120.0
"""How long a place behind a network may be unreachable before its study stops."""
_RETRY_S = 5.0

_EXTRAS = {"s3", "sftp"}
"""URL schemes that have an optional dependency of their own."""
_KEPT = re.compile(r"(trial|final)-(\d+)\.ckpt(\.partial)?")
"""A checkpoint's name."""
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one study.

    A checkpoint is there whole or not at all: on a local disk it is written beside its place and renamed, and object
    stores show an object only when it is complete.
    """

    uri: str
    """A folder's path, or a URL that fsspec knows (``s3://``, ``sftp://``, ``memory://``)."""
    kind: Kind = "trial"
    """Of trials by number, or of final models by repeat."""

    def put(self, number: int, blob: bytes) -> None:
        """Keep `blob` as the state of trial `number`, in place of an earlier one.

        Raises:
            NoPlaceError: There is no room for it, or the place was unreachable for `OUTAGE_WAIT_S`; the earlier one
                is still there.
        """
        try:
            if self._is_url:
                self._patiently(lambda: self._upload(number, blob))
            else:
                self._replace(number, blob)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            raise NoPlaceError(
                f"no room for the checkpoint of trial {number} ({len(blob)} bytes) in {self.uri}: {error.strerror};"
                " make room"
            ) from error

    def get(self, number: int) -> bytes | None:
        """Return the state of trial `number`; None where none is kept (here).

        Raises:
            NoPlaceError: The place was unreachable for `OUTAGE_WAIT_S`.
        """
        try:
            return self._patiently(lambda: self._read(number)) if self._is_url else self._read(number)
        except FileNotFoundError:
            return None

    def remove(self, number: int) -> None:
        """Forget the state of trial `number`, if there is one."""
        for name in (self._name(number), self._partial(number)):
            try:
                filesystem, folder = _located(self.uri)
                # A check first would use a listing that may be older than the file.
                filesystem.rm_file(f"{folder}/{name}")
            except FileNotFoundError:
                continue
            except Exception as error:
                if not self._is_url:
                    raise
                logger.warning("%s/%s stays behind for now: %s", self.uri, name, _reason(error))

    def keep_only(self, numbers: Collection[int]) -> None:
        """Forget the states of all trials but `numbers`, which a kill may have left behind."""
        try:
            filesystem, folder = _located(self.uri)
            for name in _names(filesystem, folder):
                kept = _KEPT.fullmatch(name)
                if kept is not None and kept[1] == self.kind and int(kept[2]) not in numbers:
                    filesystem.rm_file(f"{folder}/{name}")
        except Exception as error:
            # Each file system of fsspec raises its own kinds; what stays is removed when the study is run next.
            if not self._is_url:
                raise
            logger.warning("checkpoints in %s stay behind for now: %s", self.uri, _reason(error))

    @property
    def _is_url(self) -> bool:
        return "://" in self.uri

    def _patiently(self, act: Callable[[], T]) -> T:
        """Call `act`, which needs a place behind a network, again and again while that is unreachable."""
        given_up = time.monotonic() + OUTAGE_WAIT_S
        while True:
            try:
                return act()
            except FileNotFoundError:
                raise
            except Exception as error:
                # Each file system of fsspec raises its own kinds.
                if time.monotonic() > given_up:
                    raise NoPlaceError(
                        f"the place of checkpoints, {self.uri}, is unreachable ({_reason(error)}); check its address"
                        " and the network"
                    ) from error
                time.sleep(_RETRY_S)

    def _upload(self, number: int, blob: bytes) -> None:
        filesystem, folder = _located(self.uri)
        filesystem.makedirs(folder, exist_ok=True)
        with filesystem.open(f"{folder}/{self._name(number)}", "wb") as file:
            file.write(blob)

    def _read(self, number: int) -> bytes:
        filesystem, folder = _located(self.uri)
        with filesystem.open(f"{folder}/{self._name(number)}", "rb") as file:
            blob: bytes = file.read()
            return blob

    def _replace(self, number: int, blob: bytes) -> None:
        partial = Path(self.uri, self._partial(number))
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(Path(self.uri, self._name(number)))
        finally:
            partial.unlink(missing_ok=True)

    def _partial(self, number: int) -> str:
        """One name per trial, so that the next write replaces what a kill left behind."""
        return f"{self._name(number)}.partial"

    def _name(self, number: int) -> str:
        return f"{self.kind}-{number:05d}.ckpt"


@dataclass(frozen=True)
class CheckpointPlace:
    """Where the checkpoints of one study lie, as the driver and every machine see it."""

    folder: str
    """Its name among other studies' on a machine."""
    uri: str | None
    """A folder or a URL; None: the data folder of each machine, for its own trials."""
    shared: bool
    """Whether all machines read what one of them wrote."""
    data_dir: str | None = None
    kind: Kind = "trial"

    @property
    def store(self) -> CheckpointStore:
        """The checkpoints as this machine sees them."""
        return CheckpointStore(self.uri or str(data_root(self.data_dir) / "checkpoints" / self.folder), self.kind)

    @property
    def of_final(self) -> "CheckpointPlace":
        """The same place, for the states of the study's final models while they are trained."""
        return dataclasses.replace(self, kind="final")

    def keep_only(self, numbers: Collection[int]) -> None:
        """Forget the states of all trials but `numbers`, as far as the driver sees them."""
        if self.shared:
            self.store.keep_only(numbers)


def _located(uri: str) -> tuple[Any, str]:
    """Return the file system of a place and its folder there; a local folder may be called what fsspec reads as more
    than a name, such as ``a::b``."""
    if "://" not in uri:
        return LocalFileSystem(), uri.rstrip("/")
    filesystem, folder = fsspec.core.url_to_fs(uri.rstrip("/"))
    return filesystem, folder


def _names(filesystem: Any, folder: str) -> Iterator[str]:
    """Yield what lies in a folder, as it is now; a glob would take a study's name for a pattern."""
    filesystem.invalidate_cache()
    with suppress(FileNotFoundError):
        for path in filesystem.ls(folder, detail=False):
            yield path.rpartition("/")[2]


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def forget_checkpoints(place: CheckpointPlace, running: frozenset[int]) -> None:
    """Remove the checkpoints of all trials but `running`, on every node that keeps its own."""
    place.keep_only(running)
    if not place.shared:
        each_node(_keep_only, place, running)


def _keep_only(place: CheckpointPlace, running: frozenset[int]) -> None:
    place.store.keep_only(running)


def checked_place(asked: str) -> str:
    """Return what ``--checkpoints`` was given: a folder as an absolute path, or a URL.

    Raises:
        UsageError: No file system is known for the URL, or its package is missing.
    """
    if "://" not in asked:
        return str(Path(asked).expanduser().absolute())
    scheme = asked.partition("://")[0]
    try:
        fsspec.get_filesystem_class(scheme)
    except (ValueError, ImportError) as error:
        extra = f"; `pip install -e '.[{scheme}]'` in hpo's folder brings it" if scheme in _EXTRAS else ""
        raise UsageError(f"--checkpoints {asked}: {error}{extra}") from error
    return asked


def write_probe(uri: str, token: str, make_folder: bool) -> str:
    """Write a small file to a place for checkpoints, and return the random part of its name; runs on any machine.

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
    filesystem, folder = _located(uri)
    filesystem.makedirs(folder, exist_ok=True)
    with filesystem.open(f"{folder}/.probe-{token}-{me}", "wb") as file:
        file.write(me.encode())
    return me


def try_place(uri: str) -> None:
    """Write, read and remove a small file where checkpoints are to be kept.

    Raises:
        UsageError: That does not work.
    """
    mark = secrets.token_hex(8)
    try:
        same = write_probe(uri, mark, make_folder=True) in take_probes(uri, mark)
    except Exception as error:
        # Each file system raises its own.
        raise UsageError(f"{uri} cannot be used for checkpoints ({_reason(error)})") from error
    if not same:
        raise UsageError(f"{uri} cannot be used for checkpoints (it does not give back what was written)")


def take_probes(uri: str, token: str) -> set[str]:
    """Remove the probes that this machine finds there, and return the random parts of their names."""
    filesystem, folder = _located(uri)
    begin = f".probe-{token}-"
    found = {name for name in _names(filesystem, folder) if name.startswith(begin)}
    for name in found:
        with suppress(FileNotFoundError):
            filesystem.rm_file(f"{folder}/{name}")
    return {name.removeprefix(begin) for name in found}
