"""The dashboard's answers, asked as a WSGI server asks, over real ledgers."""

import io
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from hpo.dashboard.guard import Guard
from hpo.dashboard.server import app_over
from hpo.ledger import studies as ledgers
from hpo.ledger.ledger import Ledger
from hpo.ledger.lock import only_writer
from hpo.paths import StudyPaths
from hpo.spec import RunOptions
from tests.makers import epoch, report, study_spec

ASSETS = Path(__file__).parents[2] / "assets" / "ledgers"
Ask = Callable[..., "Answer"]


class Answer:
    def __init__(self, status: str, headers: list[tuple[str, str]], parts: Any) -> None:
        self.status, self.headers, self.body = int(status[:3]), dict(headers), b"".join(parts)
        # As a server does: a file that is served is open until then.
        getattr(parts, "close", lambda: None)()

    @property
    def page(self) -> dict[str, Any]:
        page: dict[str, Any] = json.loads(self.body)
        return page


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    return folder


@pytest.fixture
def url(studies: Path) -> str:
    return f"sqlite:///{studies / 'optuna.db'}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database whose one study has a complete trial, a pruned one, a failed one and one that runs."""
    database = tmp_path_factory.mktemp("made") / "optuna.db"
    study_of_four(f"sqlite:///{database}")
    return database


@pytest.fixture
def ledger(made: Path, url: str) -> Ledger:
    """A study of four as its writer has it, trial 3 open."""
    shutil.copy(made, url.removeprefix("sqlite:///"))
    ledger = ledgers.open_study(url, "study")
    ledger.own()
    ledger.adopt_interrupted()
    ledger.ask()
    return ledger


def study_of_four(url: str) -> None:
    ledger = ledgers.create(url, "study", study_spec(), RunOptions(trials=6), {"validation": 100})
    ledger.own()
    for ending, error in (("COMPLETE", None), ("PRUNED", None), ("FAIL", "ValueError: <b>|no|</b>"), (None, None)):
        number = ledger.ask().number
        for count in range(1, 4 if ending == "COMPLETE" else 3):
            report(ledger, number, epoch(count, count / 10, train_loss=float("inf") if count == 1 else 0.5))
        if ending is not None:
            ledger.finish(number, ending, error=error)  # type: ignore[arg-type]


def asker(url: str, studies: Path, *, read_only: bool = False) -> Ask:
    app = app_over(url, lambda name: StudyPaths(studies, name), "dashboard/studies/1", Guard("127.0.0.1", read_only))

    def ask(method: str, path: str, sent: Any = None, **headers: str) -> Answer:
        body = b"" if sent is None else json.dumps(sent).encode()
        environ = {
            **{"REQUEST_METHOD": method, "PATH_INFO": path.partition("?")[0], "QUERY_STRING": path.partition("?")[2]},
            **{"HTTP_HOST": "localhost", "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)},
            **{"CONTENT_TYPE": "application/json" if sent is not None else "text/plain", "HTTP_ACCEPT_ENCODING": ""},
            **{"SERVER_NAME": "localhost", "SERVER_PORT": "80", "wsgi.url_scheme": "http", **headers},
        }
        begun: list[Any] = []
        parts = app(environ, lambda *start: begun.append(start))  # type: ignore[arg-type]
        return Answer(begun[0][0], begun[0][1], parts)

    return ask


@pytest.fixture
def ask(url: str, studies: Path, ledger: Ledger) -> Ask:
    return asker(url, studies)


def test_the_first_page_is_the_studys_and_pages_cannot_be_framed_elsewhere(ask: Ask) -> None:
    first, page = ask("GET", "/"), ask("GET", "/dashboard/studies/1")

    assert (first.status, first.headers["Location"]) == (302, "/dashboard/studies/1")
    assert (page.status, page.headers["X-Frame-Options"]) == (200, "SAMEORIGIN")
    assert ask("GET", "/dashboard/studies/1", HTTP_HOST="evil.example").status == 403
    assert ask("HEAD", "/api/studies/1").status == 200


def test_a_studys_page_says_what_is_measured_what_was_asked_and_how_it_stands(ask: Ask) -> None:
    page = ask("GET", "/api/studies/1").page

    note = page["note"]["body"]
    assert page["objective_names"] == ["validation accuracy"]
    assert "**4 of 6 trials**: 1 COMPLETE, 1 PRUNED, 1 FAIL, 1 RUNNING" in note
    assert "**Best so far**: trial 0, validation accuracy 0.3000 at epoch 3" in note
    assert r"| data: dataset | digits |" in note
    assert r"| learning\_rate | low 0.0001, high 0.1, log yes |" in note
    assert page["user_attrs"][0] == {"key": "backbone", "value": "resnet18"}
    assert not {"spec", "owner"} & {one["key"] for one in page["user_attrs"]}
    assert ask("GET", "/api/studies").page["study_summaries"][0]["user_attrs"] == []
    assert ask("GET", "/api/meta").page["artifact_is_available"]


def test_each_trial_says_how_it_ended_where_and_at_what_cost(ask: Ask, studies: Path, url: str) -> None:
    complete, pruned, failed, running = ask("GET", "/api/studies/1").page["trials"]

    assert [one["state"] for one in (complete, pruned, failed, running)] == ["Complete", "Pruned", "Fail", "Running"]
    assert [value["step"] for value in pruned["intermediate_values"]] == [1, 2]
    assert "ASHA stopped it at epoch 2 of 6: it was not among the best 1/3" in pruned["note"]["body"]
    assert "It trained to epoch 3 of" in complete["note"]["body"]
    assert r"ValueError: \<b\>\|no\|\</b\>" in failed["note"]["body"]
    assert "Interrupted after epoch 2 of" in running["note"]["body"]
    facts = {one["key"]: one["value"] for one in complete["user_attrs"]}
    assert facts.pop("seconds from start to end")
    assert facts == {
        **{"best validation accuracy": "0.3", "best epoch": "3", "epochs run": "3", "training seconds": "3.0"},
        **{"machine": "10.0.0.1", "device": "cpu"},
    }
    paths = StudyPaths(studies, "study")
    paths.folder.mkdir()
    with only_writer(paths.lock, "study", url):
        page = ask("GET", "/api/studies/1").page
    assert "Being run by process" in page["note"]["body"]
    assert "Running: epoch 2 of" in page["trials"][3]["note"]["body"]


def test_a_process_that_was_killed_runs_no_study(ask: Ask, studies: Path) -> None:
    paths = StudyPaths(studies, "study")
    paths.folder.mkdir()
    note = paths.lock.with_name(f"{paths.lock.name}.json")
    ended = json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1})

    note.write_text(ended, encoding="utf-8")

    assert "Not being run; `hpo resume study` continues it" in ask("GET", "/api/studies/1").page["note"]["body"]


def test_what_changes_while_the_page_is_open_is_seen(ask: Ask, ledger: Ledger) -> None:
    before = ask("GET", "/api/studies/1").page

    report(ledger, 3, epoch(3, 0.9))
    ledger.finish(3, "COMPLETE")

    after = ask("GET", "/api/studies/1?after=3").page
    assert "best so far" in after["note"]["body"].lower()
    assert "trial 3, validation accuracy 0.9000 at epoch 3" in after["note"]["body"]
    assert [one["artifact_id"] for one in after["trials"][0]["artifacts"]] != [
        one["artifact_id"] for one in before["trials"][3]["artifacts"]
    ]


def test_curves_are_a_picture_and_a_table_and_run_no_script(ask: Ask) -> None:
    trial = ask("GET", "/api/studies/1").page["trials"][0]

    files = {one["mimetype"]: ask("GET", f"/artifacts/1/1/{one['artifact_id']}") for one in trial["artifacts"]}

    assert files["image/png"].body.startswith(b"\x89PNG")
    rows = files["text/csv"].body.decode().splitlines()
    assert rows[0].startswith("epoch,val_accuracy,val_loss,train_loss")
    assert rows[1].startswith("1,0.1,1.0,inf,")
    assert len(rows) == 4
    assert all(one.headers["Content-Security-Policy"].startswith("sandbox") for one in files.values())
    assert all("Access-Control-Allow-Origin" not in one.headers for one in files.values())


def test_the_final_models_files_are_the_studys_and_nothing_else_is_served(ask: Ask, studies: Path) -> None:
    final = studies / "study" / "final"
    final.mkdir(parents=True)
    (final / "confusion_matrix.png").write_bytes(b"\x89PNG")
    (final / "metrics.json").write_text("{}", encoding="utf-8")
    (studies / "study" / "secret.txt").write_text("x", encoding="utf-8")

    files = ask("GET", "/api/studies/1").page["artifacts"]

    assert [one["filename"] for one in files] == ["final/confusion_matrix.png", "final/metrics.json"]
    assert ask("GET", f"/artifacts/1/{files[0]['artifact_id']}").body == b"\x89PNG"
    for name in ("../secret.txt", "secret.txt", "final", "9" * 30, "final-metrics.json-1"):
        assert ask("GET", f"/artifacts/1/{name}").status == 404
        assert ask("GET", f"/artifacts/1/1/{name}").status == 404


def test_a_note_keeps_what_people_write_below_what_the_ledger_says(ask: Ask, ledger: Ledger) -> None:
    shown = ask("GET", "/api/studies/1").page["note"]
    sent = {"version": shown["version"] + 1, "body": f"{shown['body']}\nMy own words."}

    assert ask("PUT", "/api/studies/1/note", sent).status == 204
    ledger.finish(3, "FAIL", error="ValueError: no")

    after = ask("GET", "/api/studies/1").page["note"]
    assert "2 FAIL" in after["body"]
    assert "1 RUNNING" not in after["body"]
    assert after["body"].endswith("My own words.")
    assert after["body"].count("Specification") == 1
    assert ask("PUT", "/api/studies/1/note", sent).status == 409
    assert ask("PUT", "/api/studies/1/note", ["no note"]).status in (400, 500)
    assert ask("PUT", "/api/studies/1/1/note", {"version": 1, "body": "Odd."}).status == 204
    assert ask("GET", "/api/studies/1").page["trials"][0]["note"]["body"].endswith("Odd.")


def test_a_study_is_deleted_as_hpo_deletes_it_but_never_while_it_is_run(ask: Ask, studies: Path, url: str) -> None:
    paths = StudyPaths(studies, "study")
    paths.folder.mkdir()

    with only_writer(paths.lock, "study", url):
        refused = ask("DELETE", "/api/studies/1")
    assert refused.status == 409
    assert "study study is being run by process" in refused.page["reason"]

    assert ask("DELETE", "/api/studies/1", {"remove_associated_artifacts": True}).status == 204
    assert ledgers.list_studies(url) == []
    assert not paths.folder.exists()
    assert ask("DELETE", "/api/studies/1").status == 404


def test_a_study_whose_folder_is_elsewhere_is_not_deleted_under_a_living_process(ask: Ask, url: str) -> None:
    # The fixture's writer is this process, which lives.
    assert ask("DELETE", "/api/studies/1").status == 409
    assert len(ledgers.list_studies(url)) == 1


def test_a_study_that_took_the_row_of_a_deleted_one_is_shown_instead(ask: Ask, url: str, ledger: Ledger) -> None:
    assert len(ask("GET", "/api/studies/1").page["trials"]) == 4
    ledgers.delete(url, "study")

    other = ledgers.create(url, "other", study_spec(), RunOptions(trials=6), {})
    report(other, other.ask().number, epoch(1, 0.7))

    page = ask("GET", "/api/studies/1").page
    assert page["name"] == "other"
    assert [trial["state"] for trial in page["trials"]] == ["Running"]


def test_trials_as_csv_are_those_of_the_studys_file(ask: Ask) -> None:
    rows = ask("GET", "/csv/1").body.decode().splitlines()
    some = ask("GET", "/csv/1?trial_ids=0,2").body.decode().splitlines()

    assert rows[0].startswith("number,state,")
    assert "curve" not in rows[0]
    assert (len(rows), len(some)) == (5, 3)


def test_read_only_shows_and_changes_nothing(url: str, studies: Path, ledger: Ledger) -> None:
    ask = asker(url, studies, read_only=True)

    assert ask("DELETE", "/api/studies/1").status == 403
    assert ask("PUT", "/api/studies/1/note", {"version": 1, "body": "x"}).status == 403
    assert ask("GET", "/api/studies/1").status == 200
    assert len(ledgers.list_studies(url)) == 1


def test_a_study_that_hpo_did_not_make_is_shown_as_it_is_and_kept(url: str, studies: Path, ledger: Ledger) -> None:
    foreign = optuna.create_study(storage=url, study_name="foreign")
    foreign.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    ask = asker(url, studies)

    page = ask("GET", "/api/studies/2").page

    assert (page["name"], page["note"]["body"], len(page["trials"])) == ("foreign", "", 1)
    assert ask("GET", "/csv/2").status == 200
    assert ask("DELETE", "/api/studies/2").status == 404
    assert "foreign" in optuna.get_all_study_names(url)
    assert ask("GET", "/api/studies/99").status == 404


def test_studies_of_earlier_versions_are_shown(tmp_path: Path) -> None:
    shutil.copytree(ASSETS / "0.1.0" / "studies", tmp_path / "studies")
    ask = asker(f"sqlite:///{tmp_path / 'studies' / 'optuna.db'}", tmp_path / "studies")

    for study in ask("GET", "/api/studies").page["study_summaries"]:
        page = ask("GET", f"/api/studies/{study['study_id']}").page
        trial = page["trials"][0]
        assert f"## {study['study_name']}" in page["note"]["body"]
        assert "| machine | 127.0.0.1 |" in trial["note"]["body"]
        assert ask("GET", f"/artifacts/{study['study_id']}/1/{trial['artifacts'][1]['artifact_id']}").status == 200
