"""Ray's own text on stderr: kept aside, everything else passed on, whatever becomes of the command."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = """
import logging, os, signal, sys
from hpo.cli.guard import Aside, guarded
from hpo.cli.relay import rays_text_aside
def say(text):
    os.write(2, text.encode())
RAYS = (
    "[2026-11-26 04:42:33,525 E 10950 11147] task_manager.cc:1545: Failed to push error to driver\\n",
    "\\x1b[33m(raylet)\\x1b[0m The node has been marked dead\\n",
    "    @     0x7f3  ray::core::CoreWorker::Run()\\n",
    "*** SIGTERM received at time=1764 ***\\n",
)
def command():
    with rays_text_aside():
        say("of C\\n")
        for line in RAYS:
            say(line)
        print("of Python", file=sys.stderr)
        END
aside = Aside()
logging.basicConfig(format="%(message)s", handlers=[aside])
logging.getLogger("hpo").addHandler(logging.StreamHandler(sys.stderr))
logging.getLogger("hpo").setLevel(logging.INFO)
sys.exit(guarded(command, aside, debug=False))
"""


def run(end: str) -> subprocess.CompletedProcess[str]:
    script = SCRIPT.replace("END", end)
    return subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_rays_text_is_counted_and_kept_and_the_rest_is_shown() -> None:
    done = run("pass")

    assert done.returncode == 0
    *shown, count = done.stderr.splitlines()
    assert sorted(shown) == ["of C", "of Python"]
    match = re.fullmatch(r"4 warnings of other packages: (\S+)", count)
    assert match
    kept = Path(match[1]).read_text("utf-8")
    Path(match[1]).unlink()
    assert "Failed to push error to driver" in kept
    assert "CoreWorker::Run" in kept


def test_an_error_within_is_reported_as_ever() -> None:
    done = run("raise OSError(28, 'No space left on device', '/x')")

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: No space left on device: /x; make room")
    assert "task_manager" not in done.stderr


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (
            "say('Fatal Python error: Segmentation fault\\n'); os.kill(os.getpid(), signal.SIGKILL)",
            "Fatal Python error",
        ),
        (
            "say('[2026-11-26 04:42:33,7 E 1 2] rpc_client.h:204: Failed to connect to GCS within 60 seconds.\\n');"
            " os._exit(1)",
            "error: Ray has died under this command, and ended it; `hpo resume` continues a study.",
        ),
    ],
    ids=["killed", "ended by Ray"],
)
def test_what_a_command_that_dies_said_last_is_shown(end: str, said: str) -> None:
    done = run(end)

    assert said in done.stderr
    assert "of Python" in done.stderr
    assert "rpc_client" not in done.stderr
