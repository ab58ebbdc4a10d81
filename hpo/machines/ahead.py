"""Ray on this machine, started while its command looks at the images: both take seconds, and mostly wait."""

import importlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
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
        thread = ThreadPoolExecutor(1)
        self.started: Future[None] = thread.submit(self._start)
        thread.shutdown(wait=False)

    def wait(self) -> None:
        """Wait until Ray is up.

        Raises:
            HpoError: It does not start.
        """
        self.started.result()

    def wait_for_processes(self) -> None:
        """Wait until its processes have imported what trials need: a trial would be started in another one."""
        if self._warm:
            ray.wait(self._warm, num_returns=len(self._warm))
            self._warm.clear()

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
        # What is half started could not be ended.
        wait([ahead.started])
        ray.shutdown()


def _import(modules: tuple[str, ...]) -> None:
    for name in modules:
        importlib.import_module(name)
