"""The examples, run as they are."""

import ast
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


def test_readme_python_runs_as_it_is(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    call = 'logdir="runs/pole", steps=20_000'
    assert block.count(call) == 1
    short = block.replace(call, 'preset="debug", logdir="runs/pole", steps=120, prefill=60')
    mean, episodes = run(tmp_path, "-c", short).splitlines()[-2:]
    assert 8 <= float(mean.split()[0]) <= 100
    ((env, count, longest),) = ast.literal_eval(episodes)
    assert env == 0 and count >= 1 and longest >= 8
    # The shell line next to it: the settings of that run start another one.
    command = "train CartPole-v1 --config runs/pole/config.toml --logdir runs/again --log tensorboard"
    run(tmp_path, "-m", "reverie", *command.split())
    assert list((tmp_path / "runs" / "again" / "tensorboard").glob("events*"))


def test_stop_at_score_ends_the_run_early(tmp_path: Path) -> None:
    out = run(tmp_path, str(ROOT / "examples" / "stop_at_score.py"), "1", "runs/stop", "3000")
    assert "Training ends at step 500" in out
    assert re.fullmatch(r"500 steps, \d+ long episodes", out.splitlines()[-1])


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
