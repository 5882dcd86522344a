"""The package's parts import each other in one direction only; pyproject.toml has the contracts."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"

PARTS = ("cli", "analysis", "bench", "training", "agent", "acting", "behavior", "world_model", "networks", "replay")
PARTS += ("envs", "experiments")
PARTS += ("checkpoints", "video", "config", "config_io", "presets", "variants", "schedules", "specs", "errors", "fast")
PARTS += ("provenance", "files", "shell")
PARTS += ("training/trainer", "training/start")


def lint_imports(source: Path) -> subprocess.CompletedProcess[str]:
    """Check the package `reverie` in folder `source` against the project's contracts."""
    code = (
        "import sys; from importlinter.cli import lint_imports; "
        f"sys.exit(lint_imports(config_filename={str(ROOT / 'pyproject.toml')!r}, no_cache=True, no_logo=True))"
    )
    environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=source, capture_output=True, text=True, check=False
    )


def write_package(folder: Path, imports: dict[str, str]) -> None:
    """A package with all parts of the real one, empty but for one import statement in some."""
    for part in dict.fromkeys((*PARTS, *imports)):
        (folder / "reverie" / part).mkdir(parents=True, exist_ok=True)
        (folder / "reverie" / part / "__init__.py").write_text(imports.get(part, "") + "\n")
    (folder / "reverie" / "__init__.py").write_text("")


def test_imports_go_one_way() -> None:
    result = lint_imports(SOURCE)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("importer", "statement"),
    [
        ("analysis", "from reverie.training import something"),
        ("experiments", "from reverie import analysis, training, envs, presets"),
        ("training", "from reverie import agent, envs, replay"),
        ("agent", "import reverie.behavior, reverie.world_model, reverie.networks, reverie.config, torch"),
        ("config", "from reverie.config_io import set_field"),
        ("envs", "from reverie.specs import EnvSpec"),
        ("replay", "import numpy"),
    ],
)
def test_downward_imports_pass(tmp_path: Path, importer: str, statement: str) -> None:
    write_package(tmp_path, {importer: statement})
    result = lint_imports(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("importer", "statement"),
    [
        ("networks", "from reverie.agent import Dreamer"),
        ("world_model", "def late():\n    from reverie.behavior import imagine"),
        ("training", "import reverie.cli"),
        ("training", "import reverie.analysis"),
        ("training", "import reverie.bench"),
        ("training", "import reverie.experiments"),
        ("analysis", "import reverie.experiments"),
        ("experiments", "import reverie.cli"),
        ("analysis", "import reverie.bench"),
        ("agent", "import reverie.replay"),
        ("checkpoints", "import reverie.networks"),
        ("behavior", "import reverie.envs"),
        ("networks", "import reverie.envs"),
        ("analysis", "from reverie.training.trainer import Trainer"),
        ("replay", "import torch"),
        ("replay", "import reverie.envs"),
        ("envs", "from torch import nn"),
        ("envs", "import reverie.replay"),
        ("config", "import reverie.networks"),
        ("errors", "import reverie.config"),
        ("homeless", "import numpy"),
    ],
)
def test_other_imports_fail(tmp_path: Path, importer: str, statement: str) -> None:
    write_package(tmp_path, {importer: statement})
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "1 broken" in result.stdout or "2 broken" in result.stdout
    assert f"reverie.{importer}" in result.stdout


def test_no_exceptions_are_granted() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert not [contract["name"] for contract in contracts if "ignore_imports" in contract]
