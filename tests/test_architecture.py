"""Which package may import which, read from the syntax trees, imports inside functions included."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = {
    **dict.fromkeys(("cli", "cli_cluster", "cli_output"), 1),
    **dict.fromkeys(("run", "create", "cache", "retrain", "export", "status", "dashboard", "delete"), 2),
    **dict.fromkeys(("cluster", "doctor"), 2),
    **dict.fromkeys(("study", "progress", "report"), 2),
    **dict.fromkeys(
        ("searcher", "rungs", "placement", "worker", "session", "trials", "ready", "nodes", "preflight"), 3
    ),
    **dict.fromkeys(("ledger", "draws", "summary", "checkpoints", "metrics"), 4),
    **dict.fromkeys(("spec", "records", "paths", "lock", "storage", "interrupts", "errors", "gpus", "joining"), 5),
}
AMONG_COMMANDS = {
    ("run", "study"),
    ("run", "retrain"),
    ("run", "export"),
    ("run", "progress"),
    ("retrain", "report"),
    ("export", "report"),
}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", modules("trainables"), ids=lambda path: path.name)
def test_trainables_know_nothing_of_the_engine(path: Path) -> None:
    assert not tops(path) & {"ray", "optuna", "hpo", "search_spaces", "typer", "rich"}


@pytest.mark.parametrize("path", modules("search_spaces"), ids=lambda path: path.name)
def test_search_spaces_know_nothing_of_torch(path: Path) -> None:
    assert not tops(path) & {"torch", "torchvision", "ray", "hpo", "trainables"}


@pytest.mark.parametrize("path", modules("hpo"), ids=lambda path: path.name)
def test_fences_of_the_engine_hold(path: Path) -> None:
    name = path.stem

    assert "optuna" not in tops(path) or name in {"ledger", "draws", "storage"}
    assert "ray" not in tops(path) or name in {
        *("searcher", "rungs", "worker", "session", "ready", "nodes"),
        *("study", "retrain", "cluster", "doctor"),
    }
    assert "torch" not in tops(path) or name in {"worker", "nodes"}
    assert "trainables.held_out_evaluation" not in imports(path) or name == "retrain"
    assert "trainables.held_out" not in imports(path) or name == "preflight"


@pytest.mark.parametrize("path", modules("hpo"), ids=lambda path: path.name)
def test_imports_run_one_way(path: Path) -> None:
    def layer_name(module: str) -> str:
        return module.split(".")[1] if module.count(".") else ""

    own = path.relative_to(ROOT / "hpo").parts[0].removesuffix(".py")
    if own == "__init__":
        return
    used = {layer_name(module) for module in imports(path) if module.startswith("hpo.")} & LAYERS.keys() - {own}

    backwards = {name for name in used if LAYERS[name] < LAYERS[own]}
    sideways = {name for name in used if LAYERS[name] == LAYERS[own] == 2 and (own, name) not in AMONG_COMMANDS}
    assert not backwards
    assert not sideways


def test_a_trial_cannot_reach_the_held_out_test() -> None:
    reached, todo = set(), ["trial"]
    while todo:
        name = todo.pop()
        path = ROOT / "trainables" / f"{name}.py"
        if name in reached or not path.exists():
            continue
        reached.add(name)
        todo += [module.split(".")[1] for module in imports(path) if module.startswith("trainables.")]

    assert {"trial", "datasets", "learning"} <= reached
    assert not {"held_out", "held_out_evaluation", "final"} & reached


def test_only_two_functions_read_a_split_by_name() -> None:
    callers = [
        path.name
        for path in modules("trainables")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "read_split"
    ]

    assert sorted(callers) == ["datasets.py", "held_out.py"]


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['hpo', '--help']\n"
        "from hpo.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "loaded = {'torch', 'ray', 'optuna', 'pandas', 'sklearn'} & sys.modules.keys()\n"
        "assert not loaded, loaded"
    )

    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=ROOT)
