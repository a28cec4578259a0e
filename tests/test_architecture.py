"""The house: which floor may import which, which module is the door to which library, what an import loads."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("filters", "curate", "mixtures")  # each may import those before it
DOORS = {
    "ray": {"curate/engine.py"},
    "datasets": {"curate/huggingface.py"},
    "fasttext": {"filters/quality.py", "filters/quality_child.py"},
    "py3langid": {"filters/language.py"},
    "datasketch": {"curate/datasketch.py"},
    "jinja2": {"mixtures/templates.py"},
}
LEAN = {"torch", "transformers", "tokenizers", "safetensors", "numpy", "pyarrow"}
LEAN_MODULES = (
    "mixtures/plan.py",
    "mixtures/packing.py",
    "mixtures/shards.py",
    "mixtures/tokenizer.py",
    "mixtures/draws.py",
    "mixtures/loader.py",
    "mixtures/train",
)
MODULES = sorted(p for floor in FLOORS for p in (ROOT / floor).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, *, at_import_only: bool = False) -> set[str]:
    """Absolute names that a module imports; with ``at_import_only`` those that load when it is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if at_import_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the full name"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


def tops(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_its_own_floor_and_those_below(path: Path) -> None:
    floor = path.relative_to(ROOT).parts[0]
    assert not tops(imports_of(path)) & set(FLOORS[FLOORS.index(floor) + 1 :])


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_library_with_a_door_is_imported_at_its_door_alone(path: Path) -> None:
    relative = path.relative_to(ROOT).as_posix()
    libraries = tops(imports_of(path))
    for library, doors in DOORS.items():
        assert library not in libraries or relative in doors, f"{library} belongs in {', '.join(doors)}"
    if not relative.startswith("mixtures/train/"):
        assert not libraries & {"torch", "transformers"}


def test_modules_import_each_other_without_cycles() -> None:
    names = {name_of(p): p for p in MODULES}
    graph = {
        name: {
            n
            for n in imports_of(path, at_import_only=True)
            if n in names and n != name and names[n].name != "__init__.py"
        }
        for name, path in names.items()
    }
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                walk(other, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        walk(name, ())
    assert len(done) == len(MODULES)


def test_importing_the_packages_loads_no_heavy_library() -> None:
    code = "import sys, filters, curate, mixtures; print(sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    for heavy in ("ray", "torch", "datasets", "fasttext", "numba", "polars", "pyarrow", "numpy"):
        assert f"'{heavy}'" not in loaded


@pytest.mark.parametrize("package", FLOORS)
def test_every_public_name_exists_and_has_a_docstring(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__ == sorted(set(module.__all__))
    assert dir(module) == module.__all__
    for name in module.__all__:
        value = getattr(module, name)
        assert isinstance(value, dict) or value.__doc__, f"{package}.{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.parametrize("package", FLOORS)
def test_the_names_for_type_checkers_are_the_names_that_exist(package: str) -> None:
    """Each face states its names twice: for the checker under TYPE_CHECKING, and where to load them from."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    block = next(n for n in tree.body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test))
    checked = {
        alias.asname: f"{node.module}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert checked == importlib.import_module(package)._HOMES


def lean_closure() -> set[Path]:
    """The lean modules and every module of ours that they load, lazily or not."""
    names = {name_of(p): p for p in MODULES}
    todo = [p for p in MODULES if p.relative_to(ROOT).as_posix().startswith(LEAN_MODULES)]
    seen: set[Path] = set()
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo += [names[n] for n in imports_of(path) if n in names and names[n].name != "__init__.py"]
    return seen


def test_the_lean_modules_import_nothing_but_what_a_gpu_node_has() -> None:
    closure = lean_closure()
    assert len(closure) > len(LEAN_MODULES)
    for path in closure:
        outside = tops(imports_of(path)) - set(sys.stdlib_module_names) - set(FLOORS) - LEAN
        assert not outside, f"{path.relative_to(ROOT)} imports {outside}"
        if path.name != "tokenizer.py" and "train" not in path.parts:
            assert "tokenizers" not in tops(imports_of(path))


def test_nothing_else_is_a_top_level_package() -> None:
    assert sorted(p.parent.name for p in ROOT.glob("*/__init__.py")) == sorted(FLOORS)


def test_no_file_names_a_machine_or_a_registry() -> None:
    own = [p for folder in (*FLOORS, "tests", "configs", "notebooks") for p in (ROOT / folder).rglob("*")]
    kinds = (".py", ".md", ".yaml", ".toml", ".txt", ".ipynb", ".patch")
    texts = [
        p for p in [*own, *ROOT.glob("*")] if p.suffix in kinds and "data" not in p.relative_to(ROOT).parts
    ]
    assert len(texts) > 100
    for path in texts:
        text = path.read_text(encoding="utf-8")
        for word in ("/" + "work/", "/" + "root/", "pypi" + ".org"):
            assert word not in text, f"{path.relative_to(ROOT)} holds {word}"


@pytest.mark.parametrize("package", FLOORS)
def test_no_public_name_is_also_a_modules_name(package: str) -> None:
    """A submodule that was imported becomes an attribute of its package and would hide the name."""
    modules = {p.stem for p in (ROOT / package).glob("*.py")} | {
        p.name for p in (ROOT / package).iterdir() if p.is_dir()
    }
    assert not modules & set(importlib.import_module(package).__all__)
