"""A card's lines give what `hpo predict` gives, in an environment without hpo and what came with it."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image

from hpo.models.predict import predict
from hpo.paths import StudyPaths
from tests.finals import turned

ROOT = Path(__file__).parents[3]
NEEDED = ("torch", "torchvision", "safetensors", "pillow")
SCRIPT = """
import importlib.util, json, os, re, sys
absent = ("hpo", "trainables", "search_spaces", "optuna", "ray", "sklearn", "pydantic")
assert not [name for name in absent if importlib.util.find_spec(name)]
for folder in sys.argv[1:]:
    os.chdir(folder)
    sys.path.insert(0, folder)
    code = re.search(r"```python\\n(.*?)```", open("README.md", encoding="utf-8").read(), re.DOTALL)[1]
    scope = {}
    exec(code, scope)
    print(json.dumps(dict(zip(scope["p"]["classes"], scope["probabilities"].tolist()))))
"""


def with_requirements(names: tuple[str, ...]) -> set[str]:
    """Return packages and all that they need here, by name."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        for line in importlib.metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment that has `NEEDED` and their requirements, as links, and nothing else."""
    root = tmp_path_factory.mktemp("bare")
    venv.create(root, symlinks=True)
    (site,) = root.glob("lib/python*/site-packages")
    installed = Path(sysconfig.get_path("purelib"))
    for name in with_requirements(NEEDED):
        for file in importlib.metadata.files(name) or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (site / top).exists():
                (site / top).symlink_to(installed / top)
    return root / "bin" / "python"


def test_the_lines_of_a_card_work_without_hpo(
    bare: Path, own: StudyPaths, published: StudyPaths, photographs: list[Path], tmp_path: Path
) -> None:
    with Image.open(photographs[1]) as opened:
        photo = opened.crop((200, 100, 400, 230))
    folders = []
    for study in (own, published):
        for kind in ("turned", "transparent"):
            folder = Path(shutil.copytree(study.final, tmp_path / f"{study.studies.parent.name}-{kind}"))
            if kind == "turned":
                turned(photo, folder / "image.jpg")
            else:
                photo.convert("LA").save(folder / "image.jpg", format="png")
            folders.append(folder)
    (folders[0] / "tests").mkdir()
    # The user's own module, which is theirs to bring.
    shutil.copy(ROOT / "tests" / "tiny_backbone.py", folders[0] / "tests")

    done = subprocess.run(
        [bare, "-I", "-c", SCRIPT, *folders], capture_output=True, text=True, timeout=300, check=False
    )

    assert done.returncode == 0, done.stderr
    printed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(printed) == len(folders)
    for folder, shares in zip(folders, printed, strict=True):
        (said,) = predict(folder, [folder / "image.jpg"])
        assert shares == pytest.approx(dict(said.ranking), abs=1e-6)


def test_the_lines_are_ten_but_for_imports(own: StudyPaths, published: StudyPaths) -> None:
    for study in (own, published):
        (code,) = re.findall(r"```python\n(.*?)```", (study.final / "README.md").read_text("utf-8"), re.DOTALL)
        lines = [line for line in code.splitlines() if line and not line.startswith(("import ", "from "))]
        assert len(lines) <= 10
