"""Final models, trained in seconds without Ray, and written as a retrain writes them."""

from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from hpo.final.files import Look, TestedModel, conclude
from hpo.final.metrics import measure
from hpo.ledger import studies as ledgers
from hpo.paths import StudyPaths
from hpo.spec import RunOptions, trial_config
from hpo.tune.trials import StudyRun
from tests.makers import epoch, study_spec
from trainables.config import TrainedModel
from trainables.data.datasets import training_images
from trainables.data.splits import split, summary
from trainables.inference.description import describe
from trainables.training.held_out_evaluation import look_at_test
from trainables.training.retraining import load, retrain

ORIENTATION = 0x0112
PARAMS: dict[str, Any] = {"learning_rate": 0.003, "batch_size": 4, "epochs": 4, "freeze_mode": "none"}


def turned(image: Image.Image, path: Path) -> None:
    """Save an image lying on its side, with the EXIF orientation that turns it upright."""
    lying = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    lying.save(path, exif=exif)


def photos(root: Path, photographs: list[Path]) -> Path:
    """Make an image folder of two classes of ten crops each, every other one turned by EXIF alone, losslessly."""
    generator = np.random.default_rng(0)
    for path in photographs:
        (root / path.stem).mkdir(parents=True)
        image = Image.open(path)
        for index in range(10):
            left, top = (int(generator.integers(0, limit)) for limit in (300, 150))
            crop = image.crop((left, top, left + 120, top + 80))
            file = root / path.stem / f"{index}.png"
            turned(crop, file) if index % 2 else crop.save(file)
    return root


def final_study(folder: Path, images: Path, name: str = "study", **changes: Any) -> StudyPaths:
    """Train a study's final model on an image folder, and return where it is.

    `changes` are those of `study_spec`; without any it is the tests' tiny backbone at 32 pixels, in float32.
    """
    given = {"backbone": "tests.tiny_backbone:tiny", "weights": "default", "image_size": 32, "splits_sha256": None}
    data = {"dataset": f"imagefolder:{images}", "exif": "turn", "layouts": "recognised"}
    spec = study_spec(**{**given, **data, **changes})
    options = RunOptions(trials=1, data_dir=str(folder / "data"))
    paths = StudyPaths(folder / "studies", name)
    paths.folder.mkdir(parents=True)
    found = training_images(spec.data, options.data_dir)
    url = f"sqlite:///{paths.studies / 'optuna.db'}"
    ledger = ledgers.create(url, name, spec, options, summary(found, split(found, spec.data)))
    number = ledger.ask().number
    ledger.report(number, epoch(1, 0.5), host="10.0.0.1", device="cpu")
    ledger.finish(number, "COMPLETE")
    config = trial_config(spec, options, PARAMS, 0, 1, None)
    *_, trained = retrain(config, "train+val", [PARAMS["learning_rate"]] * PARAMS["epochs"])
    assert isinstance(trained, TrainedModel)
    learner = load(config, trained)
    ledger.count_test_look()
    seen = look_at_test(learner)
    rows = zip(seen.ids, seen.labels.tolist(), seen.predicted.tolist(), strict=True)
    described = describe(learner.network.model, spec.model, spec.data.exif, seen.classes)
    look = Look(measure(seen.labels, seen.predicted, seen.classes), seen.classes, tuple(rows), described)
    run = StudyRun(ledger, options, paths, cast(Any, None), cast(Any, None))
    conclude(run, ledger.records()[0], "train+val", [TestedModel(trained.model, trained.accuracy, look)])
    return paths
