"""A trainable of a user's own that learns nothing: its accuracy is a formula of its parameters and its seed."""

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from trainables.config import EpochResult, TrainableConfig


def train(
    config: TrainableConfig, *, resume_from: bytes | None = None, save: Callable[[bytes], None] | None = None
) -> Iterator[EpochResult]:
    """Climb towards an accuracy that `rate` and `shape` decide; wait while there is a file ``hold``."""
    accuracies: list[float] = json.loads(resume_from) if resume_from is not None else []
    for epoch, accuracy in enumerate(accuracies, 1):
        yield _result(config, epoch, accuracy)
    for epoch in range(len(accuracies) + 1, config.epochs + 1):
        while epoch > 1 and (Path(os.environ.get("HPO_DATA_DIR", ".")) / "hold").exists():
            time.sleep(0.05)
        noise = random.Random(f"{config.seed} {epoch}").random() / 20
        best = {"round": 0.9, "square": 0.7}[str(config.params["shape"])] - abs(float(config.params["rate"]) - 0.1)
        accuracies.append(max(0.0, best * (1 - 0.5**epoch) - noise))
        if save is not None:
            save(json.dumps(accuracies).encode())
        yield _result(config, epoch, accuracies[-1])


def _result(config: TrainableConfig, epoch: int, accuracy: float) -> EpochResult:
    extra: dict[str, float | str] = {"distance": abs(float(config.params["rate"]) - 0.1), "note": f"epoch {epoch}"}
    return EpochResult(epoch=epoch, val_accuracy=accuracy, extra=extra)
