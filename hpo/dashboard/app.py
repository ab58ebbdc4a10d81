"""The dashboard as a WSGI application: optuna-dashboard behind a guard, with hpo's notes, files and way of deleting."""

import io
import json
import logging
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, quote
from wsgiref.types import StartResponse, WSGIApplication

from sqlalchemy import URL

from hpo.dashboard import artifacts, guard, notes, pages
from hpo.errors import HpoError, UsageError
from hpo.ledger.fence import runs_here
from hpo.ledger.ledger import Ledger
from hpo.ledger.lock import holder
from hpo.ledger.storage import opening
from hpo.paths import StudyPaths
from hpo.studies.delete import delete
from hpo.studies.export import trials_csv

logger = logging.getLogger(__name__)

Environ = dict[str, Any]
Headers = list[tuple[str, str]]

_OF_STUDY = re.compile(r"/(?:api/studies|csv|artifacts)/(?P<study>\d{1,18})(?=/|$)")
_PART = re.compile(r"/api/studies/\d+/")
"""Parts of a study's page that are optuna-dashboard's own: importances, plots."""
_ARTIFACT = re.compile(r"/artifacts/(?P<study>\d{1,18})(?:/(?P<trial>\d{1,18}))?/(?P<key>[^/]+)")
_SAFE: Headers = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "same-origin"),
]
_NO_SCRIPTS = ("Content-Security-Policy", "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:")
"""For files, which may hold text of anybody's."""


@dataclass(frozen=True)
class Connection:
    """An open database of studies."""

    key: Callable[[int], str | None]
    """What tells the study of a row from another that takes it later."""
    find: Callable[[int], Ledger | None]
    pages: WSGIApplication
    """optuna-dashboard over it."""


@dataclass
class Source:
    """The studies that are shown."""

    connect: Callable[[], Connection]
    url: str | URL
    paths: Callable[[str], StudyPaths]
    """Where the files of a study lie."""
    first_page: str
    """The page that ``/`` leads to, below the dashboard's address."""

    def __post_init__(self) -> None:
        """Connect."""
        self._connection = self.connect()
        self._keys: dict[int, str | None] = {}
        self._lock = threading.Lock()

    def connection(self, study: int | None) -> Connection:
        """Return the connection, a new one where another study took the row of one that was deleted."""
        with self._lock:
            if study is not None:
                key = self._connection.key(study)
                if self._keys.setdefault(study, key) != key:
                    self._connection = self.connect()
                    self._keys = {study: key}
            return self._connection

    def writer(self, study: str) -> str | None:
        """Return the process that runs a study; None: none does."""
        return holder(self.paths(study).lock, study, self.url)


@dataclass(frozen=True)
class Response:
    """An answer."""

    status: str
    headers: Headers = field(default_factory=list)
    body: Iterable[bytes] = ()
    reason: str | None = None
    """Why it is not what was asked for, where hpo says so."""

    @property
    def is_ok(self) -> bool:
        """Whether it is what was asked for."""
        return self.status.startswith("200")


def application(source: Source, gate: guard.Guard) -> WSGIApplication:
    """Return the dashboard: optuna-dashboard behind the guard `gate`, with hpo's part around it."""

    def answer(environ: Environ, start: StartResponse) -> Iterable[bytes]:
        refused = gate.refusal(environ)
        try:
            with opening(source.url):
                response = _said(refused.status, refused.reason) if refused else _answer(source, environ)
        except HpoError as error:
            response = _said(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        if response.reason:
            logger.warning("%s %r: %s", environ["REQUEST_METHOD"], environ.get("PATH_INFO"), response.reason)
        start(response.status, [*response.headers, *_SAFE])
        return response.body

    return answer


def _answer(source: Source, environ: Environ) -> Response:
    method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "").rstrip("/")
    match = _OF_STUDY.match(path)
    study = int(match["study"]) if match else None
    connection = source.connection(study)
    if path == "":
        return Response("302 Found", [("Location", f"/{source.first_page}")])
    if method == "PUT":
        return _through(connection.pages, _with_own_part(environ))
    ledger = connection.find(study) if study is not None and not _PART.match(path) else None
    if method == "DELETE":
        return _delete(source, ledger)
    if ledger is not None and study is not None:
        return _of_study(source, study, ledger, connection, environ)
    response = _through(connection.pages, environ)
    fill = {"/api/studies": pages.fill_list, "/api/meta": pages.fill_meta}.get(path)
    return _filled(response, fill) if fill else response


def _of_study(source: Source, study: int, ledger: Ledger, connection: Connection, environ: Environ) -> Response:
    """Return a study's page, its trials as CSV, or a file of it."""
    path, paths = environ["PATH_INFO"].rstrip("/"), source.paths(ledger.name)
    if path.startswith("/csv/"):
        return _csv(ledger, environ.get("QUERY_STRING", ""))
    if match := _ARTIFACT.fullmatch(path):
        return _artifact(ledger, paths, match["trial"] is not None, match["key"])
    response = _through(connection.pages, environ)
    return _filled(response, lambda page: pages.fill_study(page, study, ledger, paths, source.writer(ledger.name)))


def _delete(source: Source, ledger: Ledger | None) -> Response:
    """Delete a study as `hpo delete` does."""
    if ledger is None:
        return _said(HTTPStatus.NOT_FOUND, "there is no such study, or hpo did not make it.")
    paths = source.paths(ledger.name)
    try:
        # Its lock is in its folder: where that is not here, the lock says nothing.
        if not paths.folder.exists() and ledger.last_writer and runs_here(ledger.last_writer):
            raise HpoError(
                f"study {ledger.name} may be being run by {ledger.last_writer}; its folder is not {paths.folder}."
            )
        delete(source.url, paths)
    except UsageError as error:
        return _said(HTTPStatus.NOT_FOUND, str(error))
    except HpoError as error:
        return _said(HTTPStatus.CONFLICT, str(error))
    logger.info("deleted study %s", ledger.name)
    return Response("204 No Content")


def _artifact(ledger: Ledger, paths: StudyPaths, of_trial: bool, key: str) -> Response:
    number = key.partition("-")[0]
    if of_trial:
        records = ledger.records({int(number)} if number.isdecimal() and len(number) < 19 else ())
        files = [file for record in records for file in artifacts.of_trial(record)]
    else:
        files = artifacts.of_study(paths)
    for file in files:
        if file.key == key:
            return _sent("200 OK", file.mimetype, file.read(), _NO_SCRIPTS)
    return _said(HTTPStatus.NOT_FOUND, "there is no such file any more; load the page again.")


def _csv(ledger: Ledger, query: str) -> Response:
    """Return the trials that a page asks for by number, all of them where it names none."""
    numbers = [int(one) for one in re.findall(r"\d{1,18}", parse_qs(query).get("trial_ids", [""])[0])]
    text = trials_csv(ledger.records(numbers or None))
    name = ("Content-Disposition", f"attachment; filename*=UTF-8''{quote(ledger.name, safe='')}.csv")
    return _sent("200 OK", "text/csv; charset=utf-8", text.encode(), name)


def _through(inner: WSGIApplication, environ: Environ) -> Response:
    """Return optuna-dashboard's own answer."""
    begun: list[tuple[str, Headers]] = []

    def start(status: str, headers: Headers, _error: object = None) -> Callable[[bytes], object]:
        begun.append((status, headers))
        return lambda _: None

    body = inner(environ, start)
    return Response(*begun[-1], body)


def _filled(response: Response, fill: Callable[[dict[str, Any]], None]) -> Response:
    """Return a page's data after `fill` has changed it; whatever else was answered stays as it is."""
    if not response.is_ok or not (body := b"".join(response.body)):
        return response
    page = json.loads(body)
    fill(page)
    return _json("200 OK", page)


def _with_own_part(environ: Environ) -> Environ:
    """Return the request that saves a note, without what the ledger says."""
    text = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    try:
        sent = json.loads(text)
        text = json.dumps({**sent, "body": notes.own_part(sent["body"])}).encode()
    except (ValueError, TypeError, KeyError, AttributeError):
        logger.debug("a note that is none is left to optuna-dashboard to refuse")
    return {**environ, "wsgi.input": io.BytesIO(text), "CONTENT_LENGTH": str(len(text))}


def _said(status: HTTPStatus, reason: str) -> Response:
    return replace(_json(f"{status.value} {status.phrase}", {"reason": reason}), reason=reason)


def _json(status: str, document: dict[str, Any]) -> Response:
    return _sent(status, "application/json", json.dumps(document).encode())


def _sent(status: str, kind: str, body: bytes, *headers: tuple[str, str]) -> Response:
    return Response(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *headers], [body])
