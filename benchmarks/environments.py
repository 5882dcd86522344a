"""Play an episode in an environment of every suite, each in a virtual environment of its own.

    python benchmarks/environments.py                  all suites
    python benchmarks/environments.py Crafter POPGym   some of them

Each virtual environment sees the packages of this one (PyTorch and reverie's dependencies) and gets those that the
suite's install line names, the line that `reverie list envs` prints where it knows the suite. Random actions are then
played through `reverie.make_env` until an episode ends, 1,000 steps are taken or 20 seconds are over. Rows go to
results/environments.jsonl.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MAX_STEPS, MAX_SECONDS = 1000, 20.0
MODULE = """
import stable_retro
def airstriker(render_mode=None):
    return stable_retro.make("Airstriker-Genesis-v0", render_mode=render_mode)
"""
"""Module of the current folder, as a user would write it, for a suite whose games have no Gymnasium ids."""


@dataclass(frozen=True)
class Case:
    suite: str
    env: str
    observations: str = "auto"
    install: str = ""
    """Install line; empty for the registry's, or for none."""
    packages: tuple[str, ...] = ()
    """Distributions whose versions are recorded."""
    reason: str = ""
    """Reason why the suite cannot be installed with this Python."""


CASES = (
    Case("Atari", "ALE/Pong-v5", packages=("ale-py",)),
    Case("Classic control", "CartPole-v1"),
    Case("Classic control", "CartPole-v1", "pixels", "pip install 'gymnasium[classic-control]'", ("pygame-ce",)),
    Case("Box2D", "LunarLander-v3", packages=("box2d",)),
    Case("Box2D", "CarRacing-v3", packages=("box2d",)),
    Case("MuJoCo", "HalfCheetah-v5", packages=("mujoco",)),
    Case("MuJoCo", "HalfCheetah-v5", "pixels", packages=("mujoco",)),
    Case("DeepMind Control", "dmc/walker-walk", "state", packages=("dm_control", "mujoco")),
    Case("DeepMind Control", "dmc/walker-walk", "pixels", packages=("dm_control", "mujoco")),
    Case("DeepMind Control", "dmc/walker-walk", "both", packages=("dm_control", "mujoco")),
    Case("Crafter", "crafter/reward", packages=("crafter", "numba")),
    Case("Crafter", "crafter/noreward", packages=("crafter", "numba")),
    Case("MinAtar", "MinAtar/Breakout-v1", packages=("minatar",)),
    Case("MiniGrid", "MiniGrid-Empty-8x8-v0", packages=("minigrid",)),
    Case("MiniGrid", "MiniGrid-Empty-8x8-v0", "pixels", packages=("minigrid",)),
    Case("MiniGrid", "BabyAI-GoToRedBall-v0", packages=("minigrid",)),
    Case("ViZDoom", "VizdoomBasic-v1", packages=("vizdoom",)),
    Case("MiniWorld", "MiniWorld-OneRoom-v0", packages=("miniworld", "pyglet")),
    Case("highway-env", "highway-v0", packages=("highway-env",)),
    Case("highway-env", "highway-v0", "pixels", packages=("highway-env",)),
    Case("Gymnasium-Robotics", "FetchReach-v4", packages=("gymnasium-robotics", "mujoco")),
    Case("POPGym", "popgym-RepeatFirstEasy-v0", packages=("popgym",)),
    Case("POPGym", "popgym-BattleshipEasy-v0", packages=("popgym",)),
    Case(
        "Memory Maze",
        "memory_maze.tasks:memory_maze_9x9",
        install="pip install memory-maze gym 'mujoco<4'",
        packages=("memory-maze", "dm_control", "mujoco"),
    ),
    Case("stable-retro", "games:airstriker", install="pip install stable-retro", packages=("stable-retro",)),
    Case(
        "Procgen",
        "coinrun",
        install="pip install procgen-gym",
        packages=("procgen-gym",),
        reason="procgen-gym 0.1.0 needs Python 3.13, and OpenAI's procgen has wheels up to Python 3.10.",
    ),
)


def play(env: str, observations: str, packages: list[str]) -> dict[str, Any]:
    """Play an episode; runs in the virtual environment."""
    import numpy as np

    from reverie.collectors.random_policy import RandomPolicy
    from reverie.config import EnvConfig
    from reverie.envs import as_factory, make_env

    start = time.perf_counter()
    name, factory = as_factory(env)
    with make_env(EnvConfig(name=name, observations=observations), 0, factory) as vector:
        policy = RandomPolicy(vector.spec.action, np.random.default_rng(0))
        step = vector.reset(np.array([True]))
        created, count, total = time.perf_counter(), 0, 0.0
        while count < MAX_STEPS and time.perf_counter() - created < MAX_SECONDS and not step["is_last"][0]:
            step = vector.step(policy(step))
            count, total = count + 1, total + float(step["reward"][0])
        seconds = time.perf_counter() - created
        action = vector.spec.action
        return {
            "versions": {each: importlib.metadata.version(each) for each in packages},
            "observed": {key: list(entry.shape) for key, entry in vector.spec.observations.items()},
            "images": [key for key, entry in vector.spec.observations.items() if entry.is_image],
            "action": f"{action.kind} {list(action.sizes)}",
            "notes": list(vector.spec.notes),
            "steps": count,
            "return": round(total, 3),
            "ended": "terminated" if step["is_terminal"][0] else "truncated" if step["is_last"][0] else "still running",
            "seconds_to_create": round(created - start, 2),
            "ms_per_step": round(1000 * seconds / max(count, 1), 2),
        }


def install_line(case: Case) -> str:
    """Return the line that a user types; empty if the suite comes with reverie."""
    from reverie.envs.registry import SUITES

    known = {suite.title: suite.install for suite in SUITES}
    return case.install or known.get(case.suite, "")


def requirements(line: str) -> list[str]:
    """Return what an install line installs; an extra of reverie is replaced by what it names, since it is this one."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    words = shlex.split(line.split("&&")[0])[2:]
    found = []
    for word in words:
        extra = re.fullmatch(r"reverie\[(.+)\]", word)
        found += extras[extra[1]] if extra else [word]
    return found


def make_venv(folder: Path, line: str) -> str:
    """Create a virtual environment on top of this one, and return why that failed; empty if it did not."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "base.pth").write_text(sysconfig.get_paths()["purelib"])
    if not line:
        return ""
    command = [folder / "bin" / "python", "-m", "pip", "install", "-q", *requirements(line)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    errors = [text for text in done.stderr.splitlines() if text.startswith("ERROR")]
    return "; ".join(errors) or done.stderr[-300:] if done.returncode else ""


def measure(case: Case, folder: Path) -> dict[str, Any]:
    """Return the row of a case; `folder` keeps the virtual environments by install line."""
    line = install_line(case)
    row = {"suite": case.suite, "env": case.env, "observations": case.observations, "install": line}
    row["python"] = platform.python_version()
    if case.reason:
        return {**row, "ok": False, "reason": case.reason}
    venv = folder / re.sub(r"\W+", "_", line or "none")
    if not venv.exists():
        start = time.perf_counter()
        if problem := make_venv(venv, line):
            return {**row, "ok": False, "reason": problem}
        row["seconds_to_install"] = round(time.perf_counter() - start, 1)
    words = [venv / "bin" / "python", __file__, "--play", case.env, case.observations, *case.packages]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=600)
    except subprocess.TimeoutExpired:
        return {**row, "ok": False, "reason": "It did not end within 10 minutes."}
    if done.returncode:
        return {**row, "ok": False, "reason": done.stderr.strip().splitlines()[-1]}
    return {**row, "ok": True, **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", help="titles of suites; all by default")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "environments.jsonl")
    parser.add_argument("--play", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.play:
        env, observations, *packages = args.play
        sys.path.insert(0, os.getcwd())
        print(json.dumps(play(env, observations, packages)))
        return
    unknown = set(args.suites) - {case.suite for case in CASES}
    if unknown:
        parser.error(f"There is no suite {min(unknown)}.")
    chosen = [case for case in CASES if not args.suites or case.suite in args.suites]
    kept = args.out.read_text().splitlines() if args.out.exists() else []
    rows = [row for row in map(json.loads, kept) if args.suites and row["suite"] not in args.suites]
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "games.py").write_text(MODULE)
        for case in chosen:
            rows.append(measure(case, Path(name)))
            last = rows[-1]
            seen = f"{last['steps']} steps, {last['ms_per_step']} ms each" if last["ok"] else last["reason"]
            print(f"{case.suite:20} {case.env:35} {case.observations:7} {'ok' if last['ok'] else 'FAILED':7} {seen}")
    order = {case.suite: number for number, case in enumerate(CASES)}
    rows.sort(key=lambda row: order[row["suite"]])
    args.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sys.exit(not all(row["ok"] or row["suite"] == "Procgen" for row in rows))


if __name__ == "__main__":
    main()
