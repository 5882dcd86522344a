"""`reverie eval` and `reverie dream` of a run that was trained on a class of the current folder."""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import imageio.v3 as imageio
import pytest

from reverie.agents import build_agent, save_agent
from reverie.cli import main as cli
from reverie.config import preset
from reverie.envs import as_factory, env_spec
from tests.helpers.agents import TINY

MODULE = """
import gymnasium, numpy as np
class Grow(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    observation_space = gymnasium.spaces.Box(0, 255, (48, 80, 3), np.uint8)
    action_space = gymnasium.spaces.Box(-2, 5, (1,))
    def __init__(self, render_mode=None):
        self.render_mode = render_mode
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.start, self.time = int(self.np_random.integers(100)), 0
        return self.render(), {}
    def step(self, action):
        self.time += 1
        return self.render(), float(action[0]), False, self.time >= 20, {}
    def render(self):
        return np.full((48, 80, 3), self.start + 4 * self.time, np.uint8)
"""

Run = Callable[[str, int], str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command line in a folder with an agent and the module of its environment; return what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "grow_module", raising=False)
    (tmp_path / "grow_module.py").write_text(MODULE)
    _, factory = as_factory("grow_module:Grow")
    config = preset("debug").for_env("Grow").override(**{**TINY, "env.parallel": False})
    assert not isinstance(factory, str)
    save_agent(build_agent(config, env_spec(config.env, factory)), "agent")

    def _run(line: str, status: int = 0) -> str:
        found = cli.main(shlex.split(line))
        captured = capsys.readouterr()
        assert found == status, captured.err
        return captured.err if status else captured.out

    return _run


def test_eval_of_a_run_of_a_class_names_the_option(run: Run) -> None:
    for command in ("eval agent", "dream agent"):
        assert "Give it: --env module:Grow, or env=Grow in Python." in " ".join(run(command, 1).split())


def test_eval_env_plays_the_class(run: Run) -> None:
    found = json.loads(run("eval agent --env grow_module:Grow --episodes 3 --json", 0))
    assert [episode["length"] for episode in found["episodes"]] == [20] * 3
    low, high = found["interval"]
    assert low < found["mean"] < high
    out = run("eval agent --env grow_module:Grow --episodes 3", 0)
    assert f"mean return {found['mean']:,.2f}, 95% interval {low:,.2f} to {high:,.2f}, standard deviation" in out


def test_eval_video_is_written(run: Run) -> None:
    assert "Wrote out.mp4" in run("eval agent --env grow_module:Grow --episodes 1 --video out.mp4", 0)
    assert len(imageio.imread("out.mp4")) == 21


def test_dream_seed_and_fps_change_the_video(run: Run) -> None:
    line = "dream agent --env grow_module:Grow --horizon 6 --out"
    for number, options in enumerate(["", "--seed 7", "--seed 7", "--seed 7 --fps 5"]):
        run(f"{line} {number}.gif {options}", 0)
    default, seeded, again, slower = (Path(f"{number}.gif").read_bytes() for number in range(4))
    assert seeded == again != default and slower != seeded
    assert imageio.immeta("3.gif")["duration"] == 200
    run("dream agent --env grow_module:Grow --fps 0", 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--horizon 17", "The longest of 10 episodes has 20 steps. That is too short for --context and --horizon. "),
        ("--horizon 75", "Choose --horizon 16 or less."),
        ("--context 30", "Choose a smaller --context."),
    ],
)
def test_dream_longer_than_episodes_is_refused(run: Run, options: str, words: str) -> None:
    assert words in " ".join(run(f"dream agent --env grow_module:Grow {options}", 1).split())
