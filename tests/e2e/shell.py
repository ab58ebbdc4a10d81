"""A folder with a search space, and `hpo` run in it as a user would."""

import os
import subprocess
import sys
import time
from pathlib import Path

import optuna
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

ROOT = Path(__file__).parents[2]
HPO = Path(sys.executable).with_name("hpo")
SPACE = """
[parameters]
learning_rate = { low = 1e-4, high = 1e-2, log = true }
batch_size = { choices = [32, 64, 128] }
epochs = { low = 4, high = 12, step = 4 }
freeze_mode = { choices = ["none", "partial", "backbone"] }
"""


class Shell:
    """Runs `hpo` in `folder`; the study is called ``tiny``."""

    def __init__(self, folder: Path, space: str = SPACE, storage: str | None = None) -> None:
        self.folder = folder
        (folder / "space.toml").write_text(space, encoding="utf-8")
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "HPO_DATA_DIR": str(folder / "data")}
        self.storage = storage

    @property
    def url(self) -> str:
        """The database of the studies."""
        return self.storage or f"sqlite:///{self.folder / 'studies' / 'optuna.db'}"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(HPO), *arguments, *(("--storage", self.storage) if self.storage else ())],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def hpo(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=400)
        assert process.returncode == code, f"{arguments} ended with {process.returncode}:\n{out}\n{err}"
        return out, err

    def asked(self, *arguments: str, trials: int, backbone: str = "tests.tiny_backbone:tiny") -> tuple[str, ...]:
        return (
            *("run", "--backbone", backbone, "--dataset", "digits", "--image-size", "16", "--space", "space.toml"),
            *("--study", "tiny", "--trials", str(trials), *arguments),
        )

    def has_study(self) -> bool:
        """Whether the study has a trial; asked without Optuna, which would create the tables under hpo's hands."""
        try:
            with create_engine(self.url).connect() as connection:
                return bool(connection.execute(text("SELECT count(*) FROM trials")).scalar())
        except SQLAlchemyError:
            return False

    def trials(self, study: str = "tiny") -> list[optuna.trial.FrozenTrial]:
        return optuna.load_study(study_name=study, storage=self.url).trials


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a trial has saved its first epoch; hpo does not report it, so its folder is looked at."""
    deadline = time.monotonic() + 200
    while not list(folder.rglob("*.ckpt")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
