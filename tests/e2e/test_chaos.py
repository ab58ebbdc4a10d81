"""Kills at seeded random moments: the short form of ``make chaos``."""

from pathlib import Path

import pytest

from tests.e2e.chaos import attack, table
from tests.postgres import MISSING, programs


@pytest.mark.slow
def test_nothing_is_lost_doubled_or_left_behind_by_kills(tmp_path: Path) -> None:
    # This seed kills a trial's process, the driver and the raylet.
    report = attack(tmp_path, seed=14, kills=3)

    assert report.kills.total() == 3
    assert report.faults == 0, table(report)


@pytest.mark.slow
@pytest.mark.skipif(programs() is None, reason=MISSING)
def test_nor_with_the_ledger_in_postgresql(tmp_path: Path) -> None:
    report = attack(tmp_path, seed=1, kills=2, postgres=True)

    assert report.kills.total() == 2
    assert report.faults == 0, table(report)
