"""What a node fetches and computes before the first trial."""

from pathlib import Path

import pytest

from hpo.spec import RunOptions, trial_config
from hpo.studies.readiness import _fill_this_node
from tests.makers import study_spec

PARAMS = {"learning_rate": 1e-3, "batch_size": 16, "epochs": 1}


@pytest.mark.parametrize(("protocol", "stores"), [("sound", 1), ("last_epoch", 1), ("last_epoch training_mode", 0)])
def test_features_are_stored_where_trials_read_them(tmp_path: Path, protocol: str, stores: int) -> None:
    choices = {**PARAMS, "freeze_mode": "backbone", "protocol": protocol, "reads": "1"}
    spec = study_spec(
        backbone="tests.tiny_backbone:tiny",
        weights="default",
        image_size=16,
        splits_sha256=None,
        trainable="published",
        sampler="grid",
        space={"parameters": {name: {"choices": [value]} for name, value in choices.items()}},
    )
    options = RunOptions(trials=1, data_dir=str(tmp_path))
    config = trial_config(spec, options, {**PARAMS, "freeze_mode": "backbone"}, 0, 1, None)

    said = _fill_this_node(spec, (config,), options)

    assert "training images" in said
    assert len([*tmp_path.rglob("features/*.npy")]) == stores
