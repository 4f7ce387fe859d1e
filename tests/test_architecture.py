"""The house: every import arrow points down, nothing goes in circles, and the faces load nothing heavy."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import ROOT, WAIT_SECONDS

FLOORS = {
    "arrow_schemas": 0,
    "memxlnet.errors": 1,
    "memxlnet.background": 2,
    "memxlnet.earlier_names": 2,
    "memxlnet.notebook": 2,
    "memxlnet.progress": 2,
    "memxlnet.redaction": 2,
    "memxlnet.settings": 2,
    "memxlnet.system_errors": 2,
    "memxlnet._lazy": 3,
    "memxlnet.format": 3,
    "memxlnet.encode": 4,
    "memxlnet.sources": 5,
    "memxlnet.maintain": 6,
    "memxlnet.builder": 7,
    "memxlnet.evaluate": 8,
    "memxlnet.export": 8,
    "memxlnet.load": 8,
    "memxlnet.remote": 8,
    "memxlnet.report": 9,
    "memxlnet.cache": 10,
    "memxlnet.engines": 11,
    "memxlnet.parts": 11,
    "memxlnet.__main__": 12,
    "memxlnet.cli": 12,
    "memxlnet.data": 12,
    "memxlnet.sample": 12,
    "memxlnet": 12,
}
"""The floor of each room; the longest name that fits a module counts."""

FACES = FLOORS["memxlnet"]

HEAVY = ("torch", "transformers", "datasets", "pyarrow")

PATHS = {
    ".".join((path.parent if path.name == "__init__.py" else path.with_suffix("")).relative_to(ROOT).parts): path
    for package in ("arrow_schemas", "memxlnet")
    for path in sorted((ROOT / package).rglob("*.py"))
}


class Import(NamedTuple):
    """One import statement.

    Attributes:
        module: Who imports.
        target: The module that is imported; a name within it is left out.
        top: Whether it runs when the module is loaded.
    """

    module: str
    target: str
    top: bool
    line: int


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(PATHS[module].read_text(encoding="utf-8"))


@cache
def nodes(module: str) -> list[ast.AST]:
    return list(ast.walk(tree(module)))


def imports(module: str) -> Iterator[Import]:
    lazy = {
        id(node)
        for function in nodes(module)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in nodes(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, id(node) not in lazy, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}, line {node.lineno}: a relative import"
            assert node.module is not None
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                yield Import(module, below if below in PATHS else node.module, id(node) not in lazy, node.lineno)


ALL = [entry for module in PATHS for entry in imports(module)]
OWN = [entry for entry in ALL if entry.target.split(".")[0] in ("arrow_schemas", "memxlnet")]


def room(module: str) -> str:
    parts = module.split(".")
    return next(name for name in (".".join(parts[:stop]) for stop in range(len(parts), 0, -1)) if name in FLOORS)


def test_the_modules_are_found() -> None:
    assert {
        "arrow_schemas.tables",
        "memxlnet",
        "memxlnet.builder.chunks_to_shards",
        "memxlnet.load.time_step_loader",
    } <= set(PATHS)
    assert len(OWN) > 100


def test_every_package_has_a_floor() -> None:
    found = {".".join(module.split(".")[:2]) for module in PATHS if module.startswith("memxlnet")} | {"arrow_schemas"}
    assert found == set(FLOORS)


def test_every_arrow_points_down() -> None:
    wrong = [
        entry
        for entry in OWN
        if room(entry.module) != room(entry.target) and FLOORS[room(entry.target)] > FLOORS[room(entry.module)]
    ]
    assert wrong == []


def test_rooms_of_one_floor_do_not_lean_on_each_other() -> None:
    wrong = [
        entry
        for entry in OWN
        if room(entry.module) != room(entry.target)
        and FLOORS[room(entry.target)] == FLOORS[room(entry.module)]
        and FLOORS[room(entry.module)] < FACES
    ]
    assert wrong == []


def test_nothing_below_imports_a_face() -> None:
    assert [entry for entry in OWN if FLOORS[room(entry.target)] == FACES and FLOORS[room(entry.module)] < FACES] == []


def test_arrow_schemas_needs_the_standard_library_and_pyarrow_only() -> None:
    targets = {entry.target.split(".")[0] for entry in ALL if entry.module.startswith("arrow_schemas")}
    assert targets - set(sys.stdlib_module_names) <= {"pyarrow", "arrow_schemas"}


def test_there_is_no_circle() -> None:
    graph: dict[str, set[str]] = {module: set() for module in PATHS}
    for entry in OWN:
        if entry.module != entry.target:
            graph[entry.module].add(entry.target)
    left = {module: set(targets) for module, targets in graph.items()}
    while free := [module for module, targets in left.items() if not targets & left.keys()]:
        for module in free:
            del left[module]
    assert left == {}


def test_no_import_hides_in_a_function_to_dodge_a_circle() -> None:
    # The command line does so to start light.
    assert [entry for entry in OWN if not entry.top and room(entry.module) != "memxlnet.cli"] == []


def test_only_load_imports_torch() -> None:
    found = {room(entry.module) for entry in ALL if entry.target.split(".")[0] == "torch"}
    assert found == {"memxlnet.load"}


@pytest.mark.parametrize("heavy", ["transformers", "datasets"])
def test_workers_start_light(heavy: str) -> None:
    wrong = [entry for entry in ALL if entry.top and entry.target.split(".")[0] == heavy]
    assert wrong == []


def test_nothing_reads_pickle() -> None:
    unsafe = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    assert [entry for entry in ALL if entry.target.split(".")[0] in unsafe] == []
    for module in PATHS:
        for node in nodes(module):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("torch", "load"), ("torch", "save"), ("np", "load")}


def test_there_is_no_assert_and_no_print() -> None:
    wrong = []
    for module in PATHS:
        for node in nodes(module):
            is_print = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            if isinstance(node, ast.Assert) or is_print:
                wrong.append((module, ast.unparse(node)))
    assert wrong == []


def test_no_name_is_evaluated_or_executed() -> None:
    for module in PATHS:
        for node in nodes(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "__import__"}, (module, node.lineno)


def lines_of_code(node: ast.AST) -> int:
    """Lines that hold code: no blank ones, comments or docstrings."""
    lines = {child.lineno for child in ast.walk(node) if isinstance(child, ast.expr | ast.stmt | ast.arg | ast.keyword)}
    for child in ast.walk(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant) and isinstance(child.value.value, str):
            lines -= {*range(child.lineno, (child.end_lineno or child.lineno) + 1)}
    return len(lines)


def test_functions_and_modules_stay_short() -> None:
    """The figures of the design, with some room."""
    for module in PATHS:
        assert lines_of_code(tree(module)) <= 400, module
        for node in nodes(module):
            if isinstance(node, ast.FunctionDef):
                assert sum(map(lines_of_code, node.body)) <= 75, (module, node.name)


def loaded_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nsys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=WAIT_SECONDS
    )
    return set(done.stderr.split())


HELP = """
import runpy, sys
sys.argv = ["memxlnet", "--help"]
try:
    runpy.run_module("memxlnet.cli", run_name="__main__")
except SystemExit as error:
    assert not error.code
"""


@pytest.mark.parametrize(
    "code",
    ["import memxlnet", "import memxlnet.data", HELP],
    ids=["memxlnet", "memxlnet.data", "help"],
)
def test_the_faces_load_nothing_heavy(code: str) -> None:
    loaded = loaded_after(code)
    assert "memxlnet" in loaded
    assert loaded & {*HEAVY, "numpy", "tokenizers", "tqdm"} == set()


@pytest.mark.parametrize(
    ("code", "needed"),
    [
        ("import memxlnet.encode.encoder, memxlnet.sources, memxlnet.builder.cache_writer", "pyarrow"),
        # What the workers of an engine import.
        ("import memxlnet.engines.spark_executor, memxlnet.builder.in_workers, memxlnet.remote.scratch", "pyarrow"),
        ("import memxlnet.engines.ray_executor", "memxlnet.engines"),
    ],
    ids=["encoding", "Spark", "Ray"],
)
def test_encoding_loads_neither_torch_nor_transformers_nor_datasets(code: str, needed: str) -> None:
    loaded = loaded_after(code)
    assert needed in loaded
    assert loaded & {"torch", "transformers", "datasets"} == set()


def test_the_help_is_shown() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "memxlnet.cli", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "quickstart" in done.stdout
    assert done.stderr == ""


def test_both_packages_are_typed() -> None:
    for package in ("arrow_schemas", "memxlnet"):
        assert (ROOT / package / "py.typed").is_file()


def test_the_top_level_holds_what_it_should() -> None:
    allowed = {"pyproject.toml", "README.md", "LICENSE", "memxlnet", "arrow_schemas", "tests", "benchmarks"}
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("needs a git checkout")
    top = {Path(name).parts[0] for name in done.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= allowed
