"""What pyproject.toml and constraints.txt promise is what the package needs."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from reverie.training.loggers.trackers import MlflowLogger, TrackioLogger, WandbLogger

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


CONTROL = {"mujoco", "absl-py", "dm-env", "dm-tree", "lxml", "protobuf", "pyparsing", "requests", "tqdm"}
"""Needed by dm_control, which is installed without its dependencies on Python 3.13."""
BOUNDS = {"sqlalchemy", "alembic", "numba", "websockets", "plotly", *CONTROL}
"""Declared and not imported: what a dependency needs. MLflow keeps runs on this machine in SQLite by SQLAlchemy and
Alembic, Crafter's noise is compiled by Numba, uvicorn's sockets are those of websockets, and the studio serves the
JavaScript of plotly."""
DISTRIBUTIONS = {"mlflow": "mlflow-skinny", "dm_control": "dm-control"}
"""By the name that is imported, where that is another one and the package may be missing."""


def distribution(requirement: str) -> str:
    """`Some_Name>=1.0` to `some-name`."""
    name = re.match(r"[\w.-]+", requirement)
    assert name
    return re.sub(r"[-_.]+", "-", name.group()).lower()


def imported_distributions() -> set[str]:
    """Distributions that some module of the package imports, anywhere in it."""
    names = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names.add(node.module.split(".")[0])
    names |= {kind.name for kind in (WandbLogger, MlflowLogger, TrackioLogger)}  # imported by these names
    names -= set(sys.stdlib_module_names) | {"reverie"}
    known = packages_distributions()
    return {distribution(known[name][0]) if name in known else DISTRIBUTIONS.get(name, name) for name in names}


def test_imports_are_declared_and_declared_packages_are_imported() -> None:
    optional = PROJECT["optional-dependencies"]
    extras = [requirement for name in optional if name != "dev" for requirement in optional[name]]
    declared = {distribution(requirement) for requirement in [*PROJECT["dependencies"], *extras]}
    assert imported_distributions() == declared - BOUNDS
    assert declared >= BOUNDS


def test_every_requirement_is_pinned_to_one_version() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert not [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*", line)]
    pinned = [distribution(line) for line in lines]
    assert len(set(pinned)) == len(pinned)
    requirements = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    assert {distribution(requirement) for requirement in requirements} <= set(pinned)
    assert not [name for name in pinned if name.startswith(("nvidia-", "cuda-", "triton"))]


def test_version_has_its_part_of_the_changelog() -> None:
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_types_are_published() -> None:
    assert (ROOT / "src" / "reverie" / "py.typed").exists()


def test_wheel_holds_presets_variants_and_sources() -> None:
    included = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    data = [path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*") if path.suffix in (".toml", ".c")]
    assert len(data) > 20
    assert {path.as_posix() for path in data} <= included
