"""Fixtures that several test modules share."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from tests.postgres import MISSING, Server, postgres_server, programs


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    # Two busy processes on two cores crawl when each wants both.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    """Two real JPEGs of 640x427 pixels."""
    folder = Path(load_sample_images.__code__.co_filename).parent / "images"
    return [folder / "china.jpg", folder / "flower.jpg"]


@pytest.fixture
def photo_folder(tmp_path: Path, photographs: list[Path]) -> Path:
    """An image folder of two classes with eight crops of a photograph each."""
    root = tmp_path / "photos"
    generator = np.random.default_rng(0)
    for path in photographs:
        (root / path.stem).mkdir(parents=True)
        image = Image.open(path)
        for index in range(8):
            left, top = (int(generator.integers(0, limit)) for limit in (300, 150))
            image.crop((left, top, left + 300, top + 250)).save(root / path.stem / f"{index}.jpg", quality=95)
    return root


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 KiB that can be made larger."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
    )
    if not mounted:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A PostgreSQL server that all tests share."""
    if programs() is None:
        pytest.skip(MISSING)
    with postgres_server(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'optuna.db'}"
    server: Server = request.getfixturevalue("postgres")
    return server.new_database()
