"""The documentation: a site without warnings, links that lead somewhere, counts that are true, a notebook that runs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
