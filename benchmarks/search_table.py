"""The table that search strategies are replayed against: every point of a grid, trained once for real.

``python -m benchmarks.search_table --data-dir DIR`` pretrains a ResNet-18 on Fashion-MNIST (whose files must lie in
DIR/FashionMNIST/raw), fine-tunes it on a sixth of digits' labels at each point, and writes `TABLE`.
"""

import argparse
import itertools
import json
import logging
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from trainables.config import (
    FREEZE_MODES,
    DataConfig,
    FreezeMode,
    MachineConfig,
    ModelConfig,
    TrainedModel,
    TrialConfig,
)
from trainables.training.retraining import retrain
from trainables.training.trial import run_trial

TABLE = Path(__file__).with_name("search_table.json")
LEARNING_RATES = tuple(float(f"{10 ** (-5 + 3 * step / 7):.3g}") for step in range(8))
BATCH_SIZES = (16, 32, 64, 128)
EPOCHS = 50
IMAGE_SIZE = 32
LABEL_FRACTION = 1 / 6
"""Few labels, so that configurations differ."""

logger = logging.getLogger(__name__)


def pretrain(folder: Path) -> Path:
    """Train a ResNet-18 on Fashion-MNIST, twice over a third of it, and return its file."""
    path = folder / "fashion.safetensors"
    if not path.exists():
        config = TrialConfig(
            data=DataConfig(dataset="fashion-mnist", label_fraction=1 / 3),
            model=ModelConfig(backbone="resnet18", weights="none", head="linear", image_size=IMAGE_SIZE),
            learning_rate=1e-3,
            batch_size=64,
            epochs=2,
            machine=MachineConfig(data_dir=str(folder)),
        )
        *_, trained = retrain(config, "train+val", [1e-3, 3e-4])
        assert isinstance(trained, TrainedModel)
        path.write_bytes(trained.model)
    return path


def curve(folder: str, weights: str, point: tuple[float, int, FreezeMode]) -> list[float]:
    """Train one point of the grid and return the validation accuracy of each epoch."""
    learning_rate, batch_size, freeze_mode = point
    config = TrialConfig(
        data=DataConfig(dataset="digits", label_fraction=LABEL_FRACTION),
        model=ModelConfig(backbone="resnet18", weights=weights, image_size=IMAGE_SIZE),
        learning_rate=learning_rate,
        batch_size=batch_size,
        epochs=EPOCHS,
        freeze_mode=freeze_mode,
        machine=MachineConfig(data_dir=folder),
    )
    return [round(result.val_accuracy, 4) for result in run_trial(config)]


def main() -> None:
    """Train all points, two at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    weights = str(pretrain(options.data_dir))
    points = list(itertools.product(LEARNING_RATES, BATCH_SIZES, FREEZE_MODES))
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        curves = pool.map(curve, *zip(*((str(options.data_dir), weights, point) for point in points), strict=True))
        for (learning_rate, batch_size, freeze_mode), accuracies in zip(points, curves, strict=True):
            row = {"learning_rate": learning_rate, "batch_size": batch_size, "freeze_mode": freeze_mode}
            rows.append({**row, "val_accuracy": accuracies})
            logger.info("%d of %d: %s, best %.4f", len(rows), len(points), row, max(accuracies))
    TABLE.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
