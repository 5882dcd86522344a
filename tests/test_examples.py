"""The examples, run as they are."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TINY = "--preset debug --steps 120 --prefill 60 --train-every 20 --eval-every 0 --log-every 60"


def run(folder: Path, *command: str) -> str:
    """Run Python in an empty folder; gives its standard output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_environment_of_ones_own(tmp_path: Path) -> None:
    out = run(tmp_path, str(ROOT / "examples" / "custom_env.py"), "520")
    assert re.fullmatch(r"[1-9]\d* updates in 520 steps", out.splitlines()[-1])
    assert list((tmp_path / "runs" / "corridor" / "checkpoints").glob("step-000000520*"))


def test_python_of_the_readme(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    call = 'preset="vector", logdir="runs/cartpole-python", steps=20_000'
    assert block.count(call) == 1
    run(tmp_path, "-c", block.replace(call, 'preset="debug", logdir="runs/cartpole-python", steps=120, prefill=60'))
    assert list((tmp_path / "runs" / "cartpole-python" / "checkpoints").glob("step-000000120*"))


def test_a_trained_agent_acts(tmp_path: Path) -> None:
    run(tmp_path, "-m", "reverie.cli.main", "train", "CartPole-v1", *TINY.split(), "--logdir", "runs/cartpole")
    out = run(tmp_path, str(ROOT / "examples" / "use_agent.py"), "runs/cartpole")
    # Every step of CartPole gives a reward of one; no policy fails before the eighth, and the preset stops at 100.
    assert 8 <= float(out.removeprefix("score ")) <= 100
    page = (ROOT / "docs" / "acting.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 4
    mean = run(tmp_path, "-c", "\n".join(blocks)).partition(" ")[0]
    assert 8 <= float(mean) <= 100
