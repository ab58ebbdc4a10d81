"""The dashboard's server: it listens, names its address, and serves until it is interrupted."""

import logging
import socket
import socketserver
from collections.abc import Callable
from functools import partial
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication

from sqlalchemy import URL

from hpo.dashboard.app import Connection, Source, application
from hpo.dashboard.guard import Guard
from hpo.errors import HpoError
from hpo.ledger.storage import connect
from hpo.ledger.studies import find, key, open_study
from hpo.paths import StudyPaths

logger = logging.getLogger(__name__)


def serve(url: str | URL, paths: Callable[[str], StudyPaths], study: str | None, gate: Guard, port: int) -> None:
    """Serve the studies at `url` until interrupted.

    Args:
        paths: Where the files of a study lie.
        study: The study whose page comes first; None: the list of studies.

    Raises:
        UsageError: There is no such study, or no database.
        HpoError: The database cannot be opened, or the port cannot be used.
    """
    connect(url, must_exist=True)
    page = open_study(url, study).dashboard_path if study is not None else "dashboard"
    with _listening(gate.host, port) as server:
        only = ", read-only" if gate.read_only else ""
        logger.info("optuna-dashboard%s on http://%s:%d/%s (Ctrl-C stops it)", only, _shown(gate.host), port, page)
        try:
            server.set_app(app_over(url, paths, page, gate))
            server.serve_forever()
        except KeyboardInterrupt:
            logger.info("the dashboard has ended")


def app_over(url: str | URL, paths: Callable[[str], StudyPaths], first_page: str, gate: Guard) -> WSGIApplication:
    """Return the dashboard over the studies at `url`, with its first page, below the dashboard's address."""
    # It takes seconds to import; who opens the page by then waits for it.
    from optuna_dashboard import wsgi

    def opened() -> Connection:
        storage = connect(url, must_exist=True)
        return Connection(partial(key, storage), partial(find, storage), wsgi(storage))

    return application(Source(opened, url, paths, first_page), gate)


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """A thread per request: browsers keep connections open that ask nothing, which would block a single one."""

    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    """Logs no request: pages ask every few seconds."""

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def _listening(host: str, port: int) -> WSGIServer:
    kind = _Server6 if ":" in host else _Server
    try:
        return kind((host, port), _Quiet)
    except OSError as error:
        raise HpoError(
            f"--host {host} --port {port}: cannot be listened on ({error.strerror or error}); choose another --port."
        ) from error


def _shown(host: str) -> str:
    """The host by which people reach what listens there."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
