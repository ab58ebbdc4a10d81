"""`hpo pretrain` as people type it: killed, continued, and refused."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file

from hpo.api.pretraining import PretrainImages, PretrainOptions, config_of
from tests import pretraining as small
from tests.e2e.shell import HPO, ROOT
from trainables.contrastive.config import PretrainedEncoder
from trainables.contrastive.pretraining import pretrain

EPOCHS = 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small.write_images(tmp_path / "images")


def command(folder: Path, *more: str) -> list[str]:
    options = "--image-size 8 --batch-size 10 --warmup-epochs 1 --learning-rate 0.01 --projection 16 --knn-every 2"
    own = f"{options} --precision fp32 --epochs {EPOCHS} --dataset imagefolder:{folder} --output e.safetensors"
    return [str(HPO), "pretrain", "--arch", "resnet18", *own.split(), *more]


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    # On one thread, as in the process of this test.
    own = {"PYTHONPATH": str(ROOT), "HPO_DATA_DIR": str(folder.parent / "data"), "LOKY_MAX_CPU_COUNT": "1"}
    return subprocess.Popen(
        command(folder, *more),
        cwd=folder.parent,
        env={**os.environ, **own},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.slow
def test_one_that_was_killed_ends_as_one_that_was_not(folder: Path) -> None:
    killed = start(folder)
    wait_for(folder.parent / "e.safetensors.checkpoint", killed)
    killed.kill()
    killed.communicate()
    assert not (folder.parent / "e.safetensors").exists()
    stopped = start(folder)
    assert stopped.stderr is not None
    while not re.match(r"epoch [234]/5", line := stopped.stderr.readline()):
        assert line, stopped.communicate()
    stopped.send_signal(signal.SIGINT)
    _, said = stopped.communicate(timeout=60)
    assert (stopped.returncode, said.splitlines()[-1]) == (
        130,
        f"stopped; continue with: hpo {' '.join(command(folder)[1:])}",
    )

    resumed = start(folder, "--json")
    out, err = resumed.communicate(timeout=120)

    assert resumed.returncode == 0, err
    # What the earlier runs showed is not shown again.
    assert "continuing after epoch " in err
    assert "epoch 1/5" not in err
    assert "epoch 5/5" in err
    images = PretrainImages(dataset=f"imagefolder:{folder}", image_size=8)
    options = PretrainOptions(
        batch_size=10, warmup_epochs=1, learning_rate=0.01, projection=16, knn_every=2, precision="fp32", epochs=EPOCHS
    )
    *_, undisturbed = pretrain(config_of("resnet18", images, options, 0), small.machine(folder))
    assert isinstance(undisturbed, PretrainedEncoder)
    written = load_file(folder.parent / "e.safetensors")
    for name, values in load(undisturbed.encoder).items():
        assert torch.equal(values, written[name]), name
    said_json = json.loads(out)
    assert said_json["backbone"] == "small:resnet18"
    assert said_json["encoder"] == str(folder.parent / "e.safetensors")
    files = {path.name for path in folder.parent.iterdir()}
    assert files == {"images", "data", "e.safetensors"}


def test_what_cannot_be_used_is_one_line(folder: Path) -> None:
    process = start(folder, "--batch-size", "100")
    out, err = process.communicate(timeout=60)

    assert (process.returncode, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"error: --batch-size 100: imagefolder:{folder} has 24 images")
    assert {path.name for path in folder.parent.iterdir()} == {"images"}
