"""The documentation: a site without warnings, links that lead somewhere, counts that are true, a notebook that runs."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
PAGES = [path.relative_to(ROOT) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("studies/*.md"))]


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(tmp_path)]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert "Return study" in (tmp_path / "python.html").read_text(encoding="utf-8")
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages <= {path.stem for path in tmp_path.glob("*.html")}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_link_to_a_file_leads_to_one(page: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)

    assert not [one for one in targets if "://" not in one and not (ROOT / page.parent / one).exists()]


TOOLS = ("hpo", "Ray Tune", "Optuna", "KerasTuner", "AutoGluon")
EVERYDAY = (ROOT / "docs" / "everyday.md").read_text(encoding="utf-8")
# Of a task: a part for each tool, or for two that share code, which begins with their names in bold.
PARTS = [
    (task, [tool for tool in TOOLS if tool in names], block)
    for task, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", EVERYDAY, re.DOTALL | re.MULTILINE)
    for names, part in re.findall(r"^\*\*(.+?)\*\*(.*?)(?=^\*\*|\Z)", text, re.DOTALL | re.MULTILINE)
    for block in re.findall(r"^```(?:python|console)\n.*?^```$", part, re.DOTALL | re.MULTILINE)
]


def test_the_table_of_everyday_tasks_counts_the_lines_below_it() -> None:
    rows = re.findall(r"^\| \[(.+?)\]\(#.+?\) \| (.+) \|$", EVERYDAY, re.MULTILINE)
    told = {(task, tool): cell for task, cells in rows for tool, cell in zip(TOOLS, cells.split(" | "), strict=True)}

    counted = dict.fromkeys(told, 0)
    for task, tools, block in PARTS:
        for tool in tools:
            counted[task, tool] += sum(1 for line in block.splitlines()[1:-1] if line.strip())

    assert counted == {key: 0 if cell.startswith("—[^") else int(cell) for key, cell in told.items()}
    assert EVERYDAY.count("\n```") == 2 * len(PARTS)
    peer = (ROOT / "benchmarks" / "peers" / "ray_optuna.py").read_text(encoding="utf-8")
    assert f"ray_optuna.py): {sum(1 for line in peer.splitlines() if line.strip())}\nlines" in EVERYDAY


def test_the_code_of_everyday_tasks_is_python_in_one_format() -> None:
    blocks = [block.removeprefix("```python\n").removesuffix("```") for _, _, block in PARTS if "```python" in block]
    for block in blocks:
        ast.parse(block)

        command = ["ruff", "format", "--line-length", "120", "--stdin-filename", "block.py", "-"]
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=ROOT, input=block, capture_output=True, text=True, check=False
        )

        assert done.stdout == block
    assert len(blocks) > 20


NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def shown(notebook: Any) -> list[Any]:
    """Return the outputs of a notebook's cells, in order."""
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def assert_study_is_shown(notebook: Any) -> None:
    results = [output["data"] for output in shown(notebook) if output.output_type in ("execute_result", "display_data")]
    assert any("image/png" in data for data in results)
    assert any("'held-out test accuracy 0." in data["text/plain"] for data in results)
    assert any("text/html" in data and "best_val_accuracy" in data["text/html"] for data in results)
    assert results[-1]["text/plain"] == "True"
    assert not [output for output in shown(notebook) if output.output_type in ("error", "stream")]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HPO_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)

    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    nbformat.write(notebook, tmp_path / NOTEBOOK.name)

    assert_study_is_shown(notebook)


def test_the_notebook_is_kept_with_its_outputs_and_no_path_of_a_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")

    assert_study_is_shown(nbformat.reads(text, as_version=4))
    assert len(text) < 150_000
    assert not re.search(r"/(tmp|home|root|work|Users)/", text)
