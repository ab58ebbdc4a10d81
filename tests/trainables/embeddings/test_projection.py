"""Maps: the same for the same seed, near where images are alike, and possible of few images."""

import numpy as np
import pytest

from trainables.embeddings.projection import projections


def groups(size: int) -> np.ndarray:
    """Three groups of `size` rows each, far from each other."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(3, 20))
    return (np.repeat(centres, size, axis=0) + 0.05 * generator.normal(size=(3 * size, 20))).astype(np.float32)


def test_groups_stay_together_and_a_seed_decides_the_maps() -> None:
    rows = groups(20)

    maps, again = projections(rows, 3), projections(rows, 3)

    assert maps.keys() == {"pca", "tsne"}
    for name, places in maps.items():
        assert places.shape == (60, 2)
        assert places.dtype == np.float32
        np.testing.assert_array_equal(places, again[name])
        distances = np.linalg.norm(places[:, None] - places[None], axis=2)
        np.fill_diagonal(distances, np.inf)
        assert (distances.argmin(axis=1) // 20 == np.arange(60) // 20).all()


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_few_images_have_a_map(count: int) -> None:
    maps = projections(groups(3)[:count], 0)

    assert maps["pca"].shape == (count, 2)
    assert ("tsne" in maps) == (count >= 5)
    assert all(np.isfinite(places).all() for places in maps.values())


def test_equal_images_lie_on_one_point() -> None:
    maps = projections(np.ones((10, 4), np.float32), 0)

    assert maps.keys() == {"pca"}
    assert not maps["pca"].any()
