"""Files from published addresses: fetched once per machine, checked, and there whole or not at all."""

import hashlib
import http.client
import logging
import shutil
import urllib.request
import uuid
import zipfile
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from trainables.errors import InputError
from trainables.steps import LongWork

logger = logging.getLogger(__name__)

_TIMEOUT_S = 30
_CHUNK_BYTES = 1 << 20


def fetch(url: str, destination: Path, sha256_prefix: str | None) -> Path:
    """Return `destination`, downloaded from `url` first if it is not there yet.

    Processes that ask at the same time download once. The file appears only when it is whole.

    Args:
        url: An http(s) address.
        destination: Where the file belongs.
        sha256_prefix: The first hexadecimal digits of the file's SHA-256; None where its publisher gives none, and
            then the digest of the first download is logged.

    Raises:
        InputError: The file cannot be fetched, was cut short, or is another file than the one that was published.
    """
    if destination.exists():
        return destination
    destination.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(destination.with_name(f".{destination.name}.lock")):
        if not destination.exists():
            partial = destination.with_name(f"{destination.name}.{uuid.uuid4().hex}.partial")
            try:
                _download(url, partial)
                _check_digest(partial, sha256_prefix, url)
                partial.replace(destination)
            finally:
                partial.unlink(missing_ok=True)
    return destination


def extract_member(archive: Path, member: str, destination: Path) -> Path:
    """Return `destination`, taken from the file named `member` (in whatever folder) of a zip `archive`.

    Only that file's bytes are read, checked against the zip's CRC-32; no name in the archive becomes a path.

    Raises:
        InputError: `archive` is no zip, is damaged, or does not hold the file.
    """
    if destination.exists():
        return destination
    partial = destination.with_name(f"{destination.name}.{uuid.uuid4().hex}.partial")
    try:
        with zipfile.ZipFile(archive) as opened:
            name = next((name for name in opened.namelist() if name.rpartition("/")[2] == member), None)
            if name is None:
                raise InputError(f"{archive} holds no {member}; remove it, so that it is fetched again.")
            with opened.open(name) as source, partial.open("wb") as target:
                shutil.copyfileobj(source, target)
        partial.replace(destination)
    except zipfile.BadZipFile as error:
        archive.unlink(missing_ok=True)
        raise InputError(f"{archive} was no whole zip file ({error}) and has been removed; try again.") from error
    finally:
        partial.unlink(missing_ok=True)
    return destination


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(url: str, partial: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer, partial.open("wb") as file:
            expected = int(answer.headers.get("Content-Length") or 0)
            received = _copy(answer, file, expected, url)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"{url} cannot be fetched ({error})") from error
    if expected and received != expected:
        raise InputError(f"{url} was cut short: {received} of {expected} bytes came")


def _copy(source: http.client.HTTPResponse, target: BinaryIO, expected: int, url: str) -> int:
    received, work = 0, LongWork(logger, f"fetching {url}")
    while chunk := source.read(_CHUNK_BYTES):
        target.write(chunk)
        received += len(chunk)
        share = f" ({100 * received // expected} %)" if expected else ""
        work.at(received, expected, "fetching %s: %d MB%s", url, received // 1_000_000, share)
    return received


def _check_digest(partial: Path, prefix: str | None, url: str) -> None:
    digest = sha256(partial)
    if prefix is None:
        logger.info("%s has SHA-256 %s (its publisher gives none to compare with)", url, digest)
    elif not digest.startswith(prefix):
        raise InputError(f"{url} gave another file: its SHA-256 starts with {digest[: len(prefix)]}, not {prefix}")
