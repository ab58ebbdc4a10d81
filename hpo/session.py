"""Ray for the length of a study: a cluster of its own, or one that runs already."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray._private import ray_constants

from hpo.errors import UsageError


@contextmanager
def ray_session(address: str) -> Iterator[list[dict[str, float]]]:
    """Start Ray (``local``) or join a running cluster (``auto``, HOST:PORT), and yield its machines' resources.

    Raises:
        UsageError: There is no cluster at `address`.
    """
    # Tune's own handler would swallow the first Ctrl-C; its loggers would write files that nobody reads.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    # Tune's newer output prints even when it is told to be silent.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    # Ray takes SIGTERM for itself when it starts.
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _connect(address)
        signal.signal(signal.SIGTERM, handler)
        yield [node["Resources"] for node in ray.nodes() if node["Alive"]]
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    # Where Ray takes clusters for impossible, as on macOS, it listens on loopback alone; there is no other way to that.
    ray_constants.ENABLE_RAY_CLUSTER = address != "local"
    try:
        ray.init(
            address=address,
            include_dashboard=False if address == "local" else None,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"--address {address}: no Ray cluster can be joined there ({reason}); start one with `ray start --head`,"
            " or, if it wants a token, set RAY_AUTH_MODE=token and copy its ~/.ray/auth_token here."
        ) from error
