"""The notebooks: committed executed and clean, and run again with the results that are committed.

After a change of a notebook or of what it shows, `python tests/test_notebooks.py` executes them all and rewrites them.
Cells say by a tag what a second run must print: "exact" the same text, "close" the same but for 5 % of each number.
"""

from __future__ import annotations

import ast
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
MACHINE = re.compile(r"/(?:home|root|tmp|Users|usr|work|mnt|opt)/|\b[A-Z]:\\|site-packages|0x[0-9a-f]{8}")
LARGEST_BYTES = 600_000


def execute(path: Path, out: Path) -> NotebookNode:
    """The notebook after a run by this Python, from its own folder, with its files in ``out``; no times in it."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as kernels:
        write_kernel_spec(Path(kernels) / "python3")
        specs = KernelSpecManager(kernel_dirs=[kernels], ensure_native_kernel=False)
        # sockets are files in a private folder, not ports that others on this machine could reach
        sockets = {"transport": "ipc", "ip": f"{kernels}/socket"}
        kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs, **sockets)
        client = NotebookClient(
            notebook,
            km=kernel,
            timeout=600,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(path.parent)}},
        )
        client.owns_km = True  # so that it ends the kernel
        client.execute(env={**os.environ, "TOUR_OUT": str(out)})
    notebook.metadata["language_info"] = {"name": "python"}  # its version is this machine's
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tagged(notebook: NotebookNode, tag: str) -> dict[str, str]:
    """What the cells with this tag print and return, by the cell's id."""
    return {
        cell.id: "".join(printed(cell))
        for cell in code_cells(notebook)
        if tag in cell.metadata.get("tags", ())
    }


def printed(cell: NotebookNode) -> Iterator[str]:
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.text
        else:
            yield output.data.get("text/plain", "")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.name)
def path(request: pytest.FixtureRequest) -> Path:
    chosen: Path = request.param
    return chosen


def test_there_is_a_tour_and_one_notebook_on_duplicates() -> None:
    assert [path.name for path in NOTEBOOKS] == ["01-tour.ipynb", "02-deduplication.ipynb"]


def test_every_cell_was_run_once_in_order_without_an_error_or_a_warning(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert not [o for o in cell.outputs if o.output_type == "error" or o.get("name") == "stderr"], cell.id
    assert sum("image/png" in o.get("data", {}) for cell in cells for o in cell.outputs) >= 3


def test_nothing_in_it_is_of_one_machine_or_moment(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert path.stat().st_size < LARGEST_BYTES
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}, cell.id
        texts = [cell.source]
        for output in cell.get("outputs", ()):
            texts += [
                output.get("text", ""),
                *(v for k, v in output.get("data", {}).items() if k[:5] == "text/"),
            ]
        for text in texts:
            assert not MACHINE.search(text), f"{cell.id}: {MACHINE.search(text)}"


def test_it_defines_nothing_that_belongs_in_the_library(path: Path) -> None:
    for cell in code_cells(nbformat.read(path, as_version=4)):
        source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
        defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        assert not [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, defined)], cell.id


def test_its_links_lead_somewhere(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    links = [
        link for c in cells if c.cell_type == "markdown" for link in re.findall(r"\]\(([^)#]+)\)", c.source)
    ]
    assert links
    for link in links:
        assert (path.parent / link).exists(), link


@pytest.mark.slow
def test_a_second_run_gives_the_committed_results(path: Path, tmp_path: Path) -> None:
    committed, again = nbformat.read(path, as_version=4), execute(path, tmp_path / "out")
    assert any((tmp_path / "out").iterdir())
    exact = tagged(committed, "exact")
    assert len(exact) >= 5
    assert all(exact.values())
    assert tagged(again, "exact") == exact
    number = re.compile(r"\d+(?:\.\d+)?")
    for cell, text in tagged(committed, "close").items():
        new = tagged(again, "close")[cell]
        assert number.sub("#", new) == number.sub("#", text)
        found, wanted = ([float(n) for n in number.findall(t)] for t in (new, text))
        assert found == pytest.approx(wanted, rel=0.05)


if __name__ == "__main__":
    for notebook_path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            executed = execute(notebook_path, Path(folder) / "out")
        nbformat.write(executed, notebook_path)
