"""Which room may import which, read from the syntax trees, imports inside functions included."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("hpo", "search_spaces", "trainables")

LAYERS = (
    {"hpo/cli"},
    {"hpo/api"},
    {"hpo/paper/runs", "hpo/paper/page"},
    {"hpo/dashboard", "hpo/paper"},
    {"hpo/studies", "hpo/report", "hpo/pretrain", "hpo/embeddings"},
    {"hpo/final", "hpo/live"},
    {"hpo/models"},
    {"hpo/views", "hpo/tune"},
    {"hpo/ledger", "hpo/machines"},
    {"hpo"},
    {"trainables/inference", "trainables/contrastive", "trainables/embeddings", "trainables/published"},
    {"trainables/training"},
    {"trainables/networks", "trainables/data"},
    {"trainables/checkpoints"},
    {"trainables", "search_spaces"},
)
"""The rooms, from the top. A room imports rooms of lower layers: never back, and never sideways."""

FENCES = {
    "optuna": {"hpo/ledger", "search_spaces"},
    "optuna_dashboard": {"hpo/dashboard/server.py"},
    "ray": {"hpo/tune", "hpo/machines", "hpo/final", "hpo/studies/readiness.py", "hpo/studies/doctor.py"},
    "torch": {"trainables", "hpo/tune/worker.py", "hpo/machines/nodes.py"},
    "torchvision": {"trainables/vision.py"},
    "typer": {"hpo/cli"},
    "rich": {"hpo/cli", "hpo/live", "hpo/pretrain/progress.py", "hpo/views"},
    "matplotlib": {"hpo/views", "hpo/report", "hpo/paper/page"},
    "jinja2": {"hpo/report", "hpo/embeddings"},
    "hpo": {"hpo"},
    "trainables.training.held_out_evaluation": {"hpo/final/retrain.py", "trainables/published/run.py"},
    "trainables.data.held_out": {
        "hpo/studies/preflight.py",
        "hpo/report/examples.py",
        "hpo/embeddings/images.py",
        "trainables/training/held_out_evaluation.py",
    },
}
"""Where alone a module is imported: a room with all that lies below it, or a file."""

ELSEWHERE = {"hpo/__main__.py": "hpo/cli", "hpo/__init__.py": "hpo/api"}
"""Files that Python wants outside their room: the command's first steps, and the names of ``import hpo``."""

MODULES = [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def modules_used(path: Path) -> set[Path]:
    """Return the files of this project that a file imports."""
    names = {Path(*name.split(".")) for name in imports(path)}
    files = {name.with_suffix(".py") for name in names} | {name / "__init__.py" for name in names}
    return files & set(MODULES)


def layer(room: str) -> int:
    return next(number for number, rooms in enumerate(LAYERS) if room in rooms)


def lies_in(path: Path, places: set[str]) -> bool:
    return any(path.is_relative_to(place) for place in places)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_room_imports_lower_rooms_alone(path: Path) -> None:
    room = ELSEWHERE.get(path.as_posix(), path.parent.as_posix())
    used = {other.parent.as_posix() for other in modules_used(path)} - {room}

    assert not {other for other in used if layer(other) <= layer(room)}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_fences_hold(path: Path) -> None:
    used = {name for name in FENCES if any(f"{one}.".startswith(f"{name}.") for one in imports(path))}

    assert not {name for name in used if not lies_in(path, FENCES[name])}


def test_what_is_private_of_ray_is_in_one_module() -> None:
    private = re.compile(r"\bray\.(\w+\.)*_[a-z]|_soft_target_node_id")
    users = {str(path) for path in MODULES if private.search((ROOT / path).read_text(encoding="utf-8"))}

    assert users == {"hpo/machines/ray_private.py"}


def test_what_is_private_of_optuna_is_in_one_module() -> None:
    private = re.compile(r"\b(study|trial)\._[a-z]|\b(?!self\b)\w+\._(study_id|trial_id)\b|study_user_attributes")
    users = {str(path) for path in MODULES if private.search((ROOT / path).read_text(encoding="utf-8"))}

    assert users == {"hpo/ledger/optuna_private.py"}


def test_no_module_imports_itself_by_a_circle() -> None:
    graphlib.TopologicalSorter({path: modules_used(path) for path in MODULES}).prepare()


def test_trainables_and_search_spaces_do_not_know_each_other() -> None:
    for path in MODULES:
        own = path.parts[0]
        others = {"trainables", "search_spaces"} - {own} if own != "hpo" else set()
        assert not {other.parts[0] for other in modules_used(path)} & others, path


def test_a_trial_cannot_reach_the_held_out_test() -> None:
    reached, todo = set[Path](), [Path("trainables/training/trial.py")]
    while todo:
        path = todo.pop()
        if path not in reached:
            reached.add(path)
            todo += modules_used(path)

    names = {path.stem for path in reached}
    assert {"trial", "datasets", "epoch"} <= names
    assert not {"held_out", "held_out_evaluation", "retraining"} & names


def test_only_two_functions_read_a_split_by_name() -> None:
    callers = [
        path.name
        for path in MODULES
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "read_split"
    ]

    assert sorted(callers) == ["datasets.py", "held_out.py"]


def test_rooms_stay_small() -> None:
    rooms = {path.parent for path in MODULES}

    crowded = {str(room) for room in rooms if sum(path.parent == room for path in MODULES) > 14}
    long = {str(path) for path in MODULES if len((ROOT / path).read_text(encoding="utf-8").splitlines()) > 400}

    assert not crowded
    assert not long


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['hpo', '--help']\n"
        "from hpo.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "loaded = {'torch', 'ray', 'optuna', 'pandas', 'sklearn'} & sys.modules.keys()\n"
        "assert not loaded, loaded"
    )

    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=ROOT)
