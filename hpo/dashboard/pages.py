"""optuna-dashboard's answers, filled with what hpo knows of a study.

Their shape is no public interface: it is that of `optuna_dashboard._serializer` in release 0.21, which is what a new
release is checked for first. They are filled on their way out, and nothing of it is stored: so it is never out of date,
costs a running study no write, and is there for studies of every version.
"""

from collections.abc import Sequence
from typing import Any

from hpo.dashboard import artifacts, notes
from hpo.dashboard.artifacts import Artifact
from hpo.ledger.ledger import SPEC, Ledger
from hpo.paths import StudyPaths, command

Page = dict[str, Any]


def fill_list(page: Page) -> None:
    """Leave out, of the list of studies, what hpo keeps for itself."""
    for study in page["study_summaries"]:
        if any(attribute["key"] == SPEC for attribute in study["user_attrs"]):
            study["user_attrs"] = []


def fill_meta(page: Page) -> None:
    """Let pages show files."""
    page["artifact_is_available"] = True


def fill_study(page: Page, study_id: int, ledger: Ledger, paths: StudyPaths, writer: str | None) -> None:
    """Fill a study's page: the metric's name, the notes and files, and of attributes those that people read."""
    resume = command("resume", [paths])
    model, data = ledger.spec.model, ledger.spec.data
    page["objective_names"] = ["validation accuracy"]
    page["user_attrs"] = _attributes({"backbone": model.backbone, "dataset": data.dataset, "seed": ledger.spec.seed})
    page["union_user_attrs"] = [{"key": name, "sortable": name not in notes.TEXT_FACTS} for name in notes.FACTS]
    _lead(page, notes.study_note(ledger, writer, resume), artifacts.of_study(paths), f"/artifacts/{study_id}")
    trials = [*page["trials"], *page["best_trials"]]
    records = {one.number: one for one in ledger.records({trial["number"] for trial in trials})}
    for trial in trials:
        record = records.get(trial["number"])
        # One that waits in Optuna's queue has not begun.
        trial["user_attrs"] = _attributes(notes.trial_facts(record)) if record else []
        if record:
            place = f"/artifacts/{study_id}/{trial['trial_id']}"
            _lead(trial, notes.trial_note(ledger, record, writer, resume), artifacts.of_trial(record), place)


def _lead(page: Page, generated: str, files: Sequence[Artifact], place: str) -> None:
    """List files, and begin the note with what the ledger says and with their pictures; `place` is where they are."""
    page["artifacts"] = [
        {"artifact_id": one.key, "filename": one.filename, "mimetype": one.mimetype, "encoding": None} for one in files
    ]
    pictures = [f"![{one.filename}]({place}/{one.key})" for one in files if one.is_picture]
    page["note"] = {**page["note"], "body": notes.joined("\n\n".join([generated, *pictures]), page["note"]["body"])}


def _attributes(values: dict[str, Any]) -> list[dict[str, str]]:
    return [{"key": name, "value": str(value)} for name, value in values.items()]
