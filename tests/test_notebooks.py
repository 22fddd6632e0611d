"""The notebooks run from a fresh kernel, without an error or a warning, and are committed clean."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_BYTES = 100_000
CELL_SECONDS = 300

each = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the notebooks' folder, with a Jupyter that knows this Python's kernel and nothing of the user's."""
    for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # beside other tests two threads wait for each other
    ignored = shutil.ignore_patterns(".*", "wanlab_runs", "my_lab")
    return Path(shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=ignored))


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@each
def test_notebook_runs(notebook: Path, fresh: Path) -> None:
    opened = nbformat.read(fresh / notebook.name, as_version=4)
    client = NotebookClient(opened, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(fresh)}})
    client.execute()  # raises CellExecutionError with the cell and its traceback
    complaints = [output.text for output in outputs(opened) if output.get("name") == "stderr" and "Warning" in output.text]
    assert not complaints


@each
def test_notebook_is_committed_clean(notebook: Path) -> None:
    assert notebook.stat().st_size < MOST_BYTES
    opened = json.loads(notebook.read_text())
    nbformat.validate(opened)
    assert opened["metadata"]["kernelspec"]["name"] == "python3"
    assert "widgets" not in opened["metadata"]
    code = [cell for cell in opened["cells"] if cell["cell_type"] == "code"]
    assert code
    assert not [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None]
