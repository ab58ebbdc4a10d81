"""Training in as much memory as there is: with fewer images at a time until a step fits."""

import dataclasses
from collections.abc import Callable, Generator
from typing import TypeVar

from trainables.config import SMALLEST_MICRO_BATCH, TrainableConfig, TrialConfig
from trainables.training.device import is_out_of_memory, release_memory

C = TypeVar("C", TrialConfig, TrainableConfig)
T = TypeVar("T")


def in_memory(config: C, begin: Callable[[C], Generator[T, None, None]]) -> Generator[tuple[C, T], None, None]:
    """Yield what `begin` yields of a configuration, each with the configuration that fitted.

    Where memory runs out, `begin` is called again with half as many images at a time; it must take up its work where it
    was left, from a checkpoint.

    Raises:
        Exception: What `begin` raises, also that memory ran out with `SMALLEST_MICRO_BATCH` images at a time.
    """
    while True:
        running = begin(config)
        try:
            for item in running:
                yield config, item
            return
        except Exception as error:
            size = (config.machine.micro_batch or config.batch_size or 0) // 2
            if not is_out_of_memory(error) or size < SMALLEST_MICRO_BATCH:
                raise
        finally:
            running.close()
        release_memory()
        config = dataclasses.replace(config, machine=dataclasses.replace(config.machine, micro_batch=size))
