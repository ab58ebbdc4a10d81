"""Ray on this machine, started while its command looks at the images: both take seconds, and mostly wait."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from threading import Event, Thread

import ray
from joblib import cpu_count

from hpo.machines.gpus import cards
from hpo.machines.session import start_here
from hpo.spec import RunOptions


class RayAhead:
    """A Ray that is being started."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = modules
        self._started: Future[None] = Future()
        self._over = Event()
        self._thread = Thread(target=self._run)
        self._thread.start()

    def wait(self) -> None:
        """Wait until Ray is up.

        Raises:
            HpoError: It does not start.
        """
        self._started.result()

    def end(self) -> None:
        """End Ray; where it is half started, once it is up, since it could not be ended before."""
        wait([self._started])
        ray.shutdown()
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            start_here(self._modules)
            self._started.set_result(None)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._started.set_exception(error)
        # Linux ends Ray's processes with the thread that started them (PR_SET_PDEATHSIG).
        self._over.wait()


@contextmanager
def ray_ahead(options: RunOptions, modules: Sequence[str]) -> Iterator[RayAhead | None]:
    """Start Ray in a thread where a study is to run on this machine alone; no Ray is left after the block.

    Args:
        options: How the study is to be run.
        modules: What a trial's process imports, which is done in advance where most of Ray's processes run trials: it
            keeps one in waiting for each CPU, and 300 MB in it, which one card's trials would not need so often.
    """
    if options.address != "local":
        yield None
        return
    ahead = RayAhead(modules if 2 * _trials_at_a_time(options) >= cpu_count() else ())
    try:
        yield ahead
    finally:
        ahead.end()


def _trials_at_a_time(options: RunOptions) -> int:
    """Return how many trials run at a time on this machine's CPUs; where it has cards, none."""
    if cards():
        return 0
    at_most = int(cpu_count() / (options.cpus_per_trial or 1))
    return min(at_most, options.concurrency or at_most)
