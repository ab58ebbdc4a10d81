"""Ray that is started while the command does something else: it is there when it is wanted, and gone afterwards."""

import subprocess
import sys
from pathlib import Path

import pytest

from hpo.machines.ahead import ray_ahead
from hpo.spec import RunOptions

ROOT = Path(__file__).parents[3]
SCRIPT = """
import sys, psutil, ray
from hpo.machines.ahead import ray_ahead
from hpo.machines.session import nodes, ray_session
from hpo.spec import RunOptions
from hpo.errors import UsageError

def imported(name): return name in sys.modules

options = RunOptions(trials=1, concurrency=1)
with ray_ahead(options, ("this", "hpo.addresses")) as ahead:
    with ray_session("local", begun=ahead.wait) as address:
        assert address == "local" and ray.is_initialized()
        # It outlives the thread's work: Linux would end it with the thread that started it.
        for _ in range(3):
            assert len(nodes()) == 1
        found = ray.get([ray.remote(num_cpus=0)(imported).remote("this") for _ in range(8)])
        assert any(found), found
assert not ray.is_initialized()
assert not psutil.Process().children(recursive=True)

try:
    with ray_ahead(RunOptions(trials=1, cpus_per_trial=10_000), ()):
        raise UsageError("no such dataset")
except UsageError as error:
    assert str(error) == "no such dataset"
assert not ray.is_initialized()
assert not psutil.Process().children(recursive=True)
"""


def test_ray_is_there_when_it_is_wanted_and_gone_whatever_happens() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    # The cluster of a test beside this one is named.
    assert [line for line in done.stderr.splitlines() if "--address auto uses it" not in line] == []


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379"])
def test_no_ray_is_started_for_a_cluster(address: str) -> None:
    with ray_ahead(RunOptions(trials=1, address=address), ("this",)) as ahead:
        assert ahead is None
