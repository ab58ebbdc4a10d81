"""What a study's folder holds is the study's in the dashboard."""

from hpo.dashboard.artifacts import of_study
from hpo.paths import StudyPaths


def test_the_model_card_and_the_confusion_matrix_are_the_studys(own: StudyPaths) -> None:
    found = {one.filename: one for one in of_study(own)}

    assert found["final/confusion_matrix.png"].is_picture
    assert found["final/README.md"].mimetype == "text/plain"
    assert b"## Limits" in found["final/README.md"].read()
    assert {"final/preprocessing.json", "final/model.safetensors"} <= set(found)
