"""Import contracts of the package (pyproject.toml), and the rule that no test module imports another one."""

import ast
import copy
import tomllib
from pathlib import Path
from typing import Any

import grimp
import pytest
from importlinter.api import read_configuration
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract

TESTS = Path(__file__).parent
PYPROJECT = TESTS.parent / "pyproject.toml"
EXTERNAL = {"torch", "numpy"}
KINDS = {"layers": LayersContract, "forbidden": ForbiddenContract}


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    """All imports of the package, external ones included, from its source text."""
    return grimp.build_graph("reverie", include_external_packages=True, cache_dir=None)


def broken_contracts(imports: grimp.ImportGraph, *added: tuple[str, str]) -> list[str]:
    """Return the names of the contracts that do not hold once the imports (importer, imported) are added."""
    graph = copy.deepcopy(imports)
    for names in added:
        importer, imported = (name if name in EXTERNAL else f"reverie.{name}" for name in names)
        graph.add_import(importer=importer, imported=imported)
    settings: dict[str, Any] = read_configuration(str(PYPROJECT))
    contracts = [
        KINDS[options["type"]](options["name"], settings["session_options"], options)
        for options in settings["contracts_options"]
    ]
    return [contract.name for contract in contracts if not contract.check(copy.deepcopy(graph), verbose=False).kept]


def test_contracts_of_the_package_hold(imports: grimp.ImportGraph) -> None:
    assert not broken_contracts(imports)


@pytest.mark.parametrize(
    "added",
    [
        ("analysis.new", "training.metrics"),
        ("sweeps.new", "analysis.new"),
        ("training.new", "agents"),
        ("training.new", "replay.new"),
        ("agents", "kernels.new"),
        ("kernels.new", "dreamer.new"),
        ("dreamer.new", "config"),
        ("dreamer.new", "torch"),
        ("envs.new", "specs"),
        ("training.new", "data.new"),
        ("data.new", "replay.new"),
    ],
    ids=" imports ".join,
)
def test_contracts_downward_import_is_allowed(imports: grimp.ImportGraph, added: tuple[str, str]) -> None:
    assert not broken_contracts(imports, added)


@pytest.mark.parametrize(
    "added",
    [
        ("dreamer.new", "kernels.new"),
        ("dreamer.new", "agents"),
        ("dreamer.new", "replay.new"),
        ("dreamer.new", "envs.new"),
        ("dreamer.new", "runs.new"),
        ("dreamer.new", "runs.atomic_io"),
        ("dreamer.new", "numpy"),
        ("kernels.new", "agents"),
        ("kernels.new", "training.new"),
        ("training.new", "cli.new"),
        ("training.new", "analysis.new"),
        ("training.new", "bench.new"),
        ("training.new", "sweeps.new"),
        ("analysis.new", "sweeps.new"),
        ("analysis.new", "bench.new"),
        ("analysis.new", "training.trainer"),
        ("sweeps.new", "cli.new"),
        ("runs.new", "agents"),
        ("replay.new", "torch"),
        ("envs.new", "torch"),
        ("envs.new", "replay.new"),
        ("config", "dreamer.new"),
        ("errors", "config"),
        ("data.new", "training.new"),
        ("data.new", "agents"),
        ("replay.new", "data.new"),
        ("unlisted", "errors"),
    ],
    ids=" imports ".join,
)
def test_contracts_other_import_breaks_one(imports: grimp.ImportGraph, added: tuple[str, str]) -> None:
    assert broken_contracts(imports, added)


def test_contracts_late_import_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import within a function counts."""
    package = tmp_path / "sample"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "late.py").write_text("def call():\n    from sample import other\n")
    (package / "other.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    found = grimp.build_graph("sample", cache_dir=None)
    assert found.find_modules_directly_imported_by("sample.late") == {"sample.other"}


def test_contracts_grant_no_exceptions() -> None:
    contracts = tomllib.loads(PYPROJECT.read_text())["tool"]["importlinter"]["contracts"]
    assert not [contract["name"] for contract in contracts if "ignore_imports" in contract]


def imported_test_modules(source: str) -> list[str]:
    """Return the test modules that a source text imports: names with a part that starts with `test_`."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names]
    of_tests = [name for name in names if name.split(".")[0] in ("tests", "")]
    return [name for name in of_tests if any(part.startswith(("test_", "conftest")) for part in name.split("."))]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from tests.test_agent import tiny", ["tests.test_agent.tiny"]),
        ("import tests.unit.test_rssm", ["tests.unit.test_rssm"]),
        ("def late():\n    from tests.unit import test_rssm", ["tests.unit.test_rssm"]),
        ("from .test_rssm import step", [".test_rssm.step"]),
        ("from tests.helpers.agents import tiny\nimport torch.testing", []),
    ],
)
def test_imported_test_modules_of_a_source_are_found(source: str, expected: list[str]) -> None:
    assert imported_test_modules(source) == expected


def test_test_modules_import_no_test_module() -> None:
    sources = {path.relative_to(TESTS): path.read_text() for path in TESTS.rglob("*.py")}
    assert len(sources) > 50
    assert not {str(path): found for path, source in sources.items() if (found := imported_test_modules(source))}
