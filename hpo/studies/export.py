"""The best configurations of a study in a form for other programs, and for the next study."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import tomli_w
import yaml

import search_spaces
from hpo.choices import ExportFormat
from hpo.errors import HpoError
from hpo.ledger.ledger import Ledger
from hpo.ledger.records import TrialRecord, best_records
from hpo.paths import StudyPaths
from hpo.views.frames import trials_frame


def export(ledger: Ledger, form: ExportFormat, top: int) -> str:
    """Return the `top` best configurations of a study as text.

    ``toml`` is a search space (``--space``) of the study's parameters that tries those configurations first; the
    others list each configuration with its trial's number and validation accuracy.

    Raises:
        HpoError: The study has no finished trial.
    """
    best = best_records(ledger.records(), top)
    if not best:
        raise HpoError(f"study {ledger.name} has no finished trial yet; `hpo resume` continues it.")
    if form == "toml":
        return _toml(ledger, best)
    rows = [_row(record) for record in best]
    if form == "csv":
        flat = [{**{k: v for k, v in row.items() if k != "params"}, **row["params"]} for row in rows]
        return _as_csv(pd.DataFrame(flat))
    document = {
        "study": ledger.name,
        "backbone": ledger.spec.model.backbone,
        "dataset": ledger.spec.data.dataset,
        "best": rows,
    }
    if form == "json":
        return json.dumps(document, indent=2) + "\n"
    return str(yaml.safe_dump(document, sort_keys=False))


def trials_csv(records: Sequence[TrialRecord]) -> str:
    """Return trials as CSV, a row each."""
    return _as_csv(trials_frame(records))


def write_study_files(ledger: Ledger, paths: StudyPaths) -> None:
    """Write ``best.toml``, ``trials.csv`` and the picture of the search into the study's folder."""
    records = ledger.records()
    best = best_records(records, 1)
    paths.report.mkdir(parents=True, exist_ok=True)
    if best:
        replace_text(paths.best, _toml(ledger, best))
    replace_text(paths.trials, trials_csv(records))
    # Here, since matplotlib takes long to import.
    from hpo.views.figures import draw_search

    draw_search(records, best[0].number if best else None, ledger.name, paths.report / "search.png")


def replace_text(path: Path, text: str) -> None:
    """Write a file beside its place and move it there whole."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise HpoError(f"{path}: cannot be written ({error.strerror or error}).") from error
    finally:
        partial.unlink(missing_ok=True)


def _toml(ledger: Ledger, best: list[TrialRecord]) -> str:
    of = f"{ledger.spec.model.backbone} on {ledger.spec.data.dataset}"
    lines = [f"# Study {ledger.name}: {of}; its best trials are tried first."]
    lines += [
        f"# Trial {record.number}: validation accuracy {record.best.val_accuracy:.4f}"
        f" at epoch {record.best.epoch} of {record.params['epochs']}."
        for record in best
        if record.best is not None
    ]
    space = search_spaces.to_dict(ledger.space)
    space["enqueue"] = [record.params for record in best]
    return "\n".join(lines) + "\n" + tomli_w.dumps(space)


def _row(record: TrialRecord) -> dict[str, Any]:
    assert record.best is not None
    return {
        "number": record.number,
        "val_accuracy": record.best.val_accuracy,
        "best_epoch": record.best.epoch,
        "params": record.params,
    }


def _as_csv(frame: pd.DataFrame) -> str:
    return str(frame.to_csv(index=False))
