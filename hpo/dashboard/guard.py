"""Which requests the dashboard answers: a page of another origin reaches nothing, and few things can be changed.

Browsers let any page send requests to any address, a loopback one included. Two of their habits give such a page away:
a changed name for this machine (DNS rebinding) is seen in ``Host``, and another origin in ``Origin`` and
``Sec-Fetch-Site`` (https://www.w3.org/TR/fetch-metadata/). Programs that are no browser send neither, and may ask.
"""

import ipaddress
import re
import socket
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

MAX_BODY = 2**20
"""Bytes of a request: a note, generously."""

NOTE = re.compile(r"/api/studies/\d{1,18}(?:/\d{1,18})?/note")
STUDY = re.compile(r"/api/studies/\d{1,18}")

_CHANGES = (("PUT", NOTE), ("DELETE", STUDY))
"""All that pages can change. Whatever else optuna-dashboard offers would write to the ledger past its one writer."""
_READS = ("GET", "HEAD")
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^\s\[\]:/?#@,]+)(?::\d+)?")


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered."""

    status: HTTPStatus
    reason: str


@dataclass(frozen=True)
class Guard:
    """Where the dashboard listens, and whether anything can be changed there."""

    host: str
    """The address or name to listen on."""
    read_only: bool = False

    @property
    def _is_loopback(self) -> bool:
        address = _address(self.host)
        return self.host == "localhost" or (address is not None and address.is_loopback)

    def knows(self, host: str) -> bool:
        """Return whether a ``Host`` header names this dashboard.

        That is `host` itself and, on loopback, the loopback addresses and ``localhost``; elsewhere the machine's own
        names, too, and any address, since only a name can be made to point somewhere else. The port may be any: that
        of an SSH tunnel is another.
        """
        match = _HOST.fullmatch(host.lower())
        if match is None:
            return False
        name = match["name"].strip("[]").removesuffix(".")
        address = _address(name)
        if address is not None:
            return address.is_loopback or not self._is_loopback
        machine = socket.gethostname().lower()
        others = () if self._is_loopback else (machine, f"{machine}.local", socket.getfqdn().lower())
        return name in ("localhost", self.host.lower(), *others)

    def refusal(self, environ: dict[str, Any]) -> Refusal | None:
        """Return why a WSGI request is not answered; None: it is."""
        host, method = environ.get("HTTP_HOST", ""), environ["REQUEST_METHOD"]
        if not self.knows(host):
            return Refusal(
                HTTPStatus.FORBIDDEN,
                f"this dashboard is not called {host!r}; `hpo dashboard --host NAME` takes the name to reach it by.",
            )
        if not _is_own_origin(environ, host):
            return Refusal(HTTPStatus.FORBIDDEN, "a page of another origin may not ask this dashboard anything.")
        return None if method in _READS else self._refused_change(environ, method)

    def _refused_change(self, environ: dict[str, Any], method: str) -> Refusal | None:
        path = environ.get("PATH_INFO", "").rstrip("/")
        if self.read_only:
            return Refusal(HTTPStatus.FORBIDDEN, "this dashboard is read-only: nothing can be changed here.")
        if not any(method == one and pattern.fullmatch(path) for one, pattern in _CHANGES):
            return Refusal(
                HTTPStatus.FORBIDDEN, "only notes can be edited and studies deleted here; hpo's commands do the rest."
            )
        length = environ.get("CONTENT_LENGTH") or "0"
        if "HTTP_TRANSFER_ENCODING" in environ or not length.isdecimal():
            return Refusal(HTTPStatus.LENGTH_REQUIRED, "a request says its length in bytes.")
        if int(length) > MAX_BODY:
            return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request holds at most {MAX_BODY} bytes.")
        kind = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        # A page of another origin can send a form or text without asking first, but no JSON.
        if int(length) and kind != "application/json":
            return Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "what is sent must be application/json.")
        return None


def _is_own_origin(environ: dict[str, Any], host: str) -> bool:
    """Whether a page of this dashboard asks, or a person who follows a link or types an address, or a program."""
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and not _is_same(origin, host):
        return False
    site = environ.get("HTTP_SEC_FETCH_SITE", "none")
    follows_link = (
        environ["REQUEST_METHOD"] in _READS
        and environ.get("HTTP_SEC_FETCH_MODE") == "navigate"
        and environ.get("HTTP_SEC_FETCH_DEST") == "document"
    )
    return site in ("none", "same-origin") or follows_link


def _is_same(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
