"""The folder of embeddings: read back as it was written, and whole or not there."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpo.embeddings import files
from hpo.embeddings.files import save_embeddings
from hpo.errors import UsageError
from tests.hpo.embeddings.made import CLASSES, embeddings


def test_an_array_has_its_rows_described_beside_it(tmp_path: Path) -> None:
    made = embeddings()

    saved = save_embeddings(made, tmp_path / "out")

    np.testing.assert_array_equal(np.load(saved.embeddings), made.array)
    rows = pd.read_csv(saved.folder / "images.csv", keep_default_na=False)
    assert rows["row"].tolist() == list(range(60))
    assert rows["id"].tolist() == list(made.ids)
    assert rows["path"].tolist()[:2] == ["", "/photos/1.png"]
    assert rows["class"].tolist()[:3] == list(CLASSES)
    assert rows["split"].tolist() == list(made.splits)
    assert json.loads((saved.folder / "embeddings.json").read_text("utf-8")) == dict(made.about)
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    assert saved.folder.stat().st_mode & 0o700 == 0o700


def test_a_table_has_embeddings_names_and_what_made_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    monkeypatch.setattr(files, "_ROWS_AT_ONCE", 25)
    made = embeddings(labels=np.asarray([-1, *(np.arange(1, 60) % 3)]))

    saved = save_embeddings(made, tmp_path / "out", form="parquet")

    rows = pd.read_parquet(saved.embeddings)
    np.testing.assert_array_equal(np.stack(rows["embedding"].to_list()), made.array)
    assert rows["id"].tolist() == list(made.ids)
    assert rows["class"].tolist()[1:3] == list(CLASSES[1:])
    assert rows["class"].isna().tolist() == [True] + [False] * 59
    assert json.loads(parquet.read_schema(saved.embeddings).metadata[b"hpo"]) == dict(made.about)


def test_duplicates_and_outliers_are_listed_with_their_rows(tmp_path: Path) -> None:
    saved = save_embeddings(embeddings(), tmp_path / "out")

    duplicates = pd.read_csv(saved.folder / "duplicates.csv")
    outliers = pd.read_csv(saved.folder / "outliers.csv")

    assert saved.duplicates == len(duplicates) == 1
    assert duplicates[["a_row", "b_row", "cosine"]].to_numpy().tolist() == [[0, 1, 1.0]]
    assert duplicates[["a_class", "b_class"]].to_numpy().tolist() == [list(CLASSES[:2])]
    assert outliers["row"].iloc[0] == 59
    assert outliers["distance"].is_monotonic_decreasing


def test_what_is_there_is_kept_and_what_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note").touch()
    (tmp_path / "empty").mkdir()

    for name, words in (("mine", "is there already"), ("mine/note", "is there already"), ("no/where", "no folder")):
        with pytest.raises(UsageError, match=words):
            save_embeddings(embeddings(), tmp_path / name)
    assert save_embeddings(embeddings(), tmp_path / "empty").page.is_file()

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "make_map", full)
    with pytest.raises(OSError, match="No space"):
        save_embeddings(embeddings(), tmp_path / "new")
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "empty"}
