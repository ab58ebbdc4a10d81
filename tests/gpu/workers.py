"""Three of Ray's workers train at the same time, two on quarters of a card and one without.

`python -m tests.gpu.workers FOLDER` prints, as JSON, what each reported of its last epoch.
"""

import json
import sys
from pathlib import Path
from typing import Any

import ray

from hpo.machines.checkpoints import CheckpointPlace
from hpo.machines.session import ray_session
from hpo.tune.worker import Worker
from tests.gpu.card import trial
from trainables.config import TrainableConfig
from trainables.trainable import FINETUNE

SHARES = (0.25, 0.25, 0.0)


def train(folder: Path) -> list[dict[str, Any]]:
    """Train frozen trials side by side, epoch by epoch, and return each one's last result."""
    one = trial(folder, mode="backbone", precision="fp32")
    params = {name: getattr(one, name) for name in ("learning_rate", "batch_size", "epochs", "freeze_mode")}
    config = TrainableConfig(data=one.data, model=one.model, params=params, seed=one.seed, machine=one.machine)
    place = CheckpointPlace("side-by-side", str(folder / "checkpoints"), shared=True)
    common = {"trainable": FINETUNE, "trial": config, "reported": 0, "checkpoints": place, "ended": ()}
    actor: Any = ray.remote(Worker)
    workers = [
        actor.options(num_cpus=0, num_gpus=share).remote({"number": number, **common})
        for number, share in enumerate(SHARES)
    ]
    results: list[dict[str, Any]] = []
    for _ in range(config.epochs):
        results = ray.get([worker.train.remote() for worker in workers])
    ray.get([worker.stop.remote() for worker in workers])
    return [{name: one[name] for name in ("epoch", "done", "device", "memory_gb")} for one in results]


if __name__ == "__main__":
    with ray_session("local"):
        sys.stdout.write(json.dumps(train(Path(sys.argv[1]))))
