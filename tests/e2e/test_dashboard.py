"""`hpo dashboard` as people use it: from the shell, opened in a real browser beside a study that is being written."""

import functools
import http.server
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from hpo.ledger.studies import list_studies
from tests.browser import MISSING, chromium, programs
from tests.e2e.shell import ROOT, Shell

needs_browser = pytest.mark.skipif(programs() is None, reason=MISSING)

WRITER = """
import sys, time
from pathlib import Path
from hpo.ledger import studies as ledgers
from hpo.paths import StudyPaths
from hpo.spec import RunOptions
from hpo.studies.owner import owned
from tests.makers import epoch, report, study_spec

paths = StudyPaths(Path(sys.argv[1]), "study")
url = f"sqlite:///{paths.studies / 'optuna.db'}"
ledgers.create(url, "study", study_spec(), RunOptions(trials=500), {})
with owned(paths, url) as ledger:
    for turn in range(500):
        number = ledger.ask().number
        for count in (1, 2):
            report(ledger, number, epoch(count, 0.5))
        ledger.finish(number, "COMPLETE" if turn % 2 else "PRUNED")
        print(number, flush=True)
        time.sleep(1)  # The pace at which the page sees trials.
"""
"""Writes a study as a run does, with its lock and its fence, a trial per second."""

SEND = """
const [url, method, headers, done] = arguments;
fetch(url, {method, headers, body: method === "GET" ? undefined : "{}"}).then(
    answer => done(answer.status), () => done("refused"));
"""

WIDTH = "return document.querySelector(`img[alt='${arguments[0]}']`)?.naturalWidth"
"""The width of a picture in pixels; null before it is there."""


@contextmanager
def dashboard(shell: Shell, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield a running dashboard and the address that it names."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = shell.start("dashboard", *arguments, "--port", str(port))
    try:
        assert process.stderr is not None
        match = re.search(r"http://\S+", process.stderr.readline())
        assert match is not None
        yield process, match[0]
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """The address of another program's page on this machine."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "index.html").write_text("<title>elsewhere</title>", encoding="utf-8")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def writer(studies: Path) -> Iterator[None]:
    """Write a study until the end of the block, from its second trial on."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(studies)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["0\n", "1\n"]
        yield
    finally:
        process.kill()
        process.communicate()


def n_trials(driver: Chrome) -> int:
    """The number of trials that the open page of trials names; 0 before it is there."""
    match = re.search(r"(\d+) Trials", driver.find_element(By.TAG_NAME, "body").text)
    return int(match[1]) if match else 0


@needs_browser
def test_a_page_beside_a_running_study_is_current_and_no_other_origin_reaches_it(
    shell: Shell, elsewhere: str, tmp_path: Path
) -> None:
    (tmp_path / "studies").mkdir()
    with (
        writer(tmp_path / "studies"),
        dashboard(shell, "study") as (_, address),
        chromium(tmp_path / "profile") as driver,
    ):
        wait = WebDriverWait(driver, 60, ignored_exceptions=[StaleElementReferenceException])
        base = address.partition("/dashboard")[0]

        driver.get(f"{base}/dashboard/studies/1/trials?numbers=0")
        first = wait.until(n_trials)
        assert wait.until(lambda one: n_trials(one) > first)
        text = driver.find_element(By.TAG_NAME, "body").text
        assert "Trial 0: PRUNED" in text
        assert "ASHA stopped it at epoch 2 of 9" in text
        assert "trial-0-epochs.csv" in text
        # The page replaces its elements whenever it asks for news.
        assert wait.until(lambda one: one.execute_script(WIDTH, "trial-0-curves.png")) > 500

        driver.get(f"{base}/dashboard/studies/1/note")
        wait.until(lambda one: "Being run by process" in one.find_element(By.TAG_NAME, "body").text)
        json_type = {"Content-Type": "application/json"}
        study = f"{base}/api/studies/1"
        assert driver.execute_async_script(SEND, study, "GET", {}) == 200
        assert driver.execute_async_script(SEND, study, "DELETE", json_type) == 409

        driver.get(elsewhere)
        assert driver.title == "elsewhere"
        for method, headers in (("GET", {}), ("DELETE", json_type), ("PUT", json_type), ("POST", {})):
            assert driver.execute_async_script(SEND, study, method, headers) == "refused"
        assert len(list_studies(shell.url)) == 1


@needs_browser
@pytest.mark.slow
def test_a_real_study_is_watched_to_its_end(shell: Shell, tmp_path: Path) -> None:
    run = shell.start(*shell.asked("--cpus-per-trial", "1", trials=40))
    while not shell.has_study():
        assert run.poll() is None
    with dashboard(shell, "tiny") as (_, address), chromium(tmp_path / "profile") as driver:
        wait = WebDriverWait(driver, 200)
        driver.get(f"{address}/trials")
        first = wait.until(n_trials)
        assert wait.until(lambda one: n_trials(one) > first)
        assert run.wait(400) == 0

        driver.get(f"{address}/note")
        text = wait.until(
            lambda one: (text := one.find_element(By.TAG_NAME, "body").text) and "40 of 40 trials" in text and text
        )
        assert "held-out test accuracy" in text
        assert wait.until(lambda one: one.execute_script(WIDTH, "final/confusion_matrix.png")) > 300


def test_its_address_is_named_a_taken_port_is_one_line_and_ctrl_c_ends_it(shell: Shell, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tests" / "assets" / "ledgers" / "0.1.0" / "studies", tmp_path / "studies")
    with dashboard(shell, "finished", "--read-only") as (process, address):
        port = re.search(r":(\d+)/dashboard/studies/\d+$", address)
        assert port is not None

        # Browsers keep connections open that ask nothing.
        with (
            socket.create_connection(("127.0.0.1", int(port[1]))),
            urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/", timeout=120) as answer,
        ):
            assert answer.status == 200

        _, err = shell.hpo("dashboard", "--port", port[1], code=1)
        assert err.count("\n") == 1
        assert f"--port {port[1]}: cannot be listened on" in err

        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    _, err = shell.hpo("dashboard", "nobodys", code=2)
    assert "there is no study nobodys" in err
