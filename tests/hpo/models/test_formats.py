"""Predictions as text, JSON Lines and CSV, whatever is in a name."""

import csv
import io
import json

from hypothesis import given
from hypothesis import strategies as st

from hpo.models.formats import formatted
from hpo.models.predict import TOP, Prediction

words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=9)
shares = st.floats(0, 1, width=32)
predictions = st.builds(
    Prediction, words, st.lists(st.tuples(words, shares), min_size=1, max_size=TOP).map(tuple), st.none()
) | st.builds(Prediction, words, st.just(()), words)

CAT = Prediction("a cat.jpg", (("cat", 0.9), ("dog", 0.08), ("a, b", 0.02)))
BAD = Prediction("bad.jpg", (), "bad.jpg cannot be read as an image (empty); fix or remove it.")


def test_text_is_a_line_for_people() -> None:
    assert "".join(formatted([CAT, BAD], "text")) == "a cat.jpg: cat 0.9000 (dog 0.0800, a, b 0.0200)\n"


def test_json_is_an_object_a_line() -> None:
    first, second = (json.loads(line) for line in formatted([CAT, BAD], "json"))

    assert first["class"] == "cat"
    assert [one["class"] for one in first["next"]] == ["dog", "a, b"]
    assert second == {"image": "bad.jpg", "error": BAD.error}


def test_csv_has_a_head_and_a_row_each() -> None:
    rows = list(csv.DictReader(io.StringIO("".join(formatted([CAT, BAD], "csv")))))

    assert (rows[0]["class"], rows[0]["class_3"], rows[0]["class_4"], rows[0]["error"]) == ("cat", "a, b", "", "")
    assert (rows[1]["class"], rows[1]["error"]) == ("", BAD.error)


@given(predictions)
def test_any_name_comes_back(one: Prediction) -> None:
    (line,) = formatted([one], "json")
    _, *body = formatted([one], "csv")

    assert line.count("\n") == 1
    assert json.loads(line)["image"] == one.image
    (row,) = csv.reader(io.StringIO("".join(body), newline=""))
    assert len(row) == 1 + 2 * TOP + 1
    assert row[0] == one.image
    assert (row[1] or None) == one.label
