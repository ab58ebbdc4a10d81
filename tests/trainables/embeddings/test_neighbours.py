"""Neighbours against a row-by-row search, and what is read from them."""

import numpy as np
import pytest

from trainables.embeddings import neighbours as module
from trainables.embeddings.neighbours import duplicate_cosine, likely_duplicates, nearest, outliers


def test_neighbours_equal_a_search_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SIMILARITIES_AT_ONCE", 7 * 30)
    values = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    found = nearest(values, 4)
    for row, value in enumerate(values):
        cosines = values @ value / np.linalg.norm(values, axis=1) / np.linalg.norm(value)
        cosines[row] = -np.inf
        expected = np.argsort(-cosines)[:4]
        assert found.rows[row].tolist() == expected.tolist()
        np.testing.assert_allclose(found.similarities[row], cosines[expected], atol=1e-5)


def test_a_copy_is_a_duplicate_and_the_far_row_an_outlier() -> None:
    values = np.array([[1, 0], [0.9, 0.3], [2, 0], [-1, 0.1]], dtype=np.float32)
    found = nearest(values, 1)
    assert [pair[:2] for pair in likely_duplicates(found, 0.999)] == [(0, 2)]
    assert outliers(found, 1)[0][0] == 3


def test_one_image_has_no_neighbour() -> None:
    found = nearest(np.ones((1, 3), dtype=np.float32), 5)
    assert found.rows.shape == (1, 0)
    assert likely_duplicates(found, 0.9) == []
    assert outliers(found, 3) == []


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        nearest(np.array([[np.nan, 1.0]], dtype=np.float32), 1)


def test_the_cosine_of_duplicates_follows_how_alike_all_images_are() -> None:
    generator = np.random.default_rng(0)
    spread = generator.normal(size=(200, 16)).astype(np.float32)
    # As of a network with random values: all rows point the same way.
    alike = spread * 0.02 + 1
    for values in (spread, alike):
        values = np.concatenate([values, values[:1] + 1e-4 * generator.normal(size=(1, 16)).astype(np.float32)])
        found = nearest(values, 5)

        pairs = likely_duplicates(found, duplicate_cosine(found))

        assert [pair[:2] for pair in pairs] == [(0, 200)]
    assert duplicate_cosine(nearest(values[:1], 5)) == 1


def test_equal_rows_are_duplicates_where_all_are_equal() -> None:
    found = nearest(np.ones((4, 3), dtype=np.float32), 12)

    assert len(likely_duplicates(found, duplicate_cosine(found))) == 6
