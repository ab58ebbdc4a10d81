"""Two final models that several tests share: a user's own backbone, and one of torchvision's."""

from pathlib import Path

import pytest

from hpo.paths import StudyPaths
from tests.finals import final_study, photos


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory, photographs: list[Path]) -> Path:
    """An image folder of two classes, half of its images turned by EXIF alone."""
    return photos(tmp_path_factory.mktemp("images") / "photos", photographs)


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory, images: Path) -> StudyPaths:
    """The study of a user's own backbone."""
    return final_study(tmp_path_factory.mktemp("own"), images)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, images: Path) -> StudyPaths:
    """The study of one of torchvision's backbones, with a linear head."""
    smallest = {"backbone": "torchvision:squeezenet1_1", "weights": "none", "head": "linear"}
    return final_study(tmp_path_factory.mktemp("published"), images, **smallest)
