"""optuna-dashboard over the ledger, also while a study runs."""

import logging

from optuna_dashboard import run_server
from sqlalchemy import URL

from hpo.errors import HpoError
from hpo.ledger.storage import connect

logger = logging.getLogger(__name__)


def serve(url: str | URL, host: str, port: int, page: str = "") -> None:
    """Serve the studies at `url` on HOST:PORT until interrupted; `page` is the one to name to the user.

    Raises:
        HpoError: The database cannot be opened, or the port cannot be used.
    """
    storage = connect(url, must_exist=True)
    logger.info("optuna-dashboard on http://%s:%d/%s (Ctrl-C stops it)", host, port, page)
    try:
        run_server(storage, host=host, port=port)
    except OSError as error:
        raise HpoError(f"--host {host} --port {port}: cannot be listened on ({error.strerror or error}).") from error
