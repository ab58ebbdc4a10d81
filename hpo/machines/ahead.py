"""Ray on this machine, started while its command looks at the images: both take seconds, and mostly wait."""

import importlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

import ray

from hpo.errors import UsageError
from hpo.machines.placement import place
from hpo.machines.session import nodes, start_here
from hpo.spec import RunOptions


class RayAhead:
    """A Ray that is being started, and its processes that import what trials need."""

    def __init__(self, options: RunOptions, modules: Sequence[str]) -> None:
        self._options = options
        self._modules = modules
        self._warm: list[Any] = []
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

    def wait_for_processes(self) -> None:
        """Wait until its processes have imported what trials need: a trial would be started in another one."""
        if self._warm:
            ray.wait(self._warm, num_returns=len(self._warm))
            self._warm.clear()

    def end(self) -> None:
        """End Ray; where it is half started, once it is up, since it could not be ended before."""
        wait([self._started])
        ray.shutdown()
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._start()
            self._started.set_result(None)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._started.set_exception(error)
        # Linux ends Ray's processes with the thread that started them (PR_SET_PDEATHSIG).
        self._over.wait()

    def _start(self) -> None:
        start_here()
        # What cannot be placed is said when the studies are.
        with suppress(UsageError):
            task = ray.remote(num_cpus=0)(_import)
            count = place(self._options, nodes()).concurrency
            self._warm = [task.remote(tuple(self._modules)) for _ in range(count)]


@contextmanager
def ray_ahead(options: RunOptions, modules: Sequence[str]) -> Iterator[RayAhead | None]:
    """Start Ray in a thread where a study is to run on this machine alone; no Ray is left after the block.

    Args:
        options: How the study is to be run.
        modules: What as many processes as trials run at a time import.
    """
    if options.address != "local":
        yield None
        return
    ahead = RayAhead(options, modules)
    try:
        yield ahead
    finally:
        ahead.end()


def _import(modules: tuple[str, ...]) -> None:
    for name in modules:
        importlib.import_module(name)
