"""The files that a study leaves."""

from pathlib import Path

import pandas as pd

from hpo.paths import StudyPaths
from hpo.studies.export import write_study_files
from tests.makers import moved_trial


def test_the_table_of_trials_names_every_machine_that_took_part(tmp_path: Path) -> None:
    paths = StudyPaths(tmp_path, "study")

    write_study_files(moved_trial(tmp_path), paths)

    (row,) = pd.read_csv(paths.trials).to_dict("records")
    assert (row["host"], row["device"]) == ("10.0.0.1 10.0.0.2", "a card")
