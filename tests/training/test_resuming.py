"""A run that was stopped, or killed, and resumed is bit for bit the run that was never stopped."""

import itertools
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gymnasium.envs.classic_control import PendulumEnv

import reverie
from reverie.envs.atari import Atari
from reverie.envs.minatar import MinAtar
from reverie.replay import ReplayBuffer
from reverie.runs.checkpoints import Checkpoints
from reverie.runs.digest import digest
from reverie.runs.verify import verify
from reverie.training import run_state
from reverie.training.collection import Collector
from reverie.training.interrupts import Stopped
from reverie.training.trainer import Trainer
from tests.helpers import environments

RUN: dict[str, Any] = {
    **{"env.parallel": False, "env.num_envs": 2, "env.time_limit": 20, "threads": 1, "steps": 96, "prefill": 30},
    **{"pretrain": 2, "pretrain_world_model": 3, "train_every": 8, "eval_every": 30, "eval_episodes": 1},
    **{"log_every": 12, "video_every": 50, "checkpoint_every": 26, "keep_checkpoints": 2},
}


def boxing() -> Atari:
    return Atari("boxing", noops=3)


def asterix() -> MinAtar:
    return MinAtar("asterix")


ENVIRONMENTS: dict[str, Callable[[], Any]] = {
    "retraced images": environments.Catch,
    "retraced continuous actions": PendulumEnv,
    "a console's own state": boxing,
    "a package's own state": asterix,
}


def train(env: Callable[[], Any], logdir: Path, resume: bool = False, **settings: Any) -> None:
    reverie.train(env, "debug", logdir=logdir, resume=resume, **{**RUN, **settings})


def stopping(env: Callable[[], Any], after: int) -> Callable[[], Any]:
    """Such environments, that stop the run with a signal when they have taken so many steps all together.

    Steps that are taken again while a run is put back do not count: nobody listens to the signal then.
    """
    steps = itertools.count(1)

    def build() -> Any:
        made = env()
        take = made.step

        def step(action: Any) -> Any:
            if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL and next(steps) == after:
                os.kill(os.getpid(), signal.SIGTERM)
            return take(action)

        made.step = step
        return made

    build.__qualname__ = env.__qualname__  # the run's environment is named by it
    return build


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """Digests of runs that are not stopped; each is trained once."""
    found: dict[Any, dict[str, str]] = {}

    def of(name: str, **settings: Any) -> dict[str, str]:
        key = (name, *settings.items())
        if key not in found:
            folder = tmp_path_factory.mktemp("whole")
            train(ENVIRONMENTS[name], folder, **settings)
            found[key] = digest(folder)
        return found[key]

    return of


BESIDE = [(name, "on") for name in ("retraced images", "a console's own state")]
"""Where steps are taken beside the learner."""


@pytest.mark.parametrize(("name", "overlap"), [*((name, "off") for name in ENVIRONMENTS), *BESIDE])
def test_stopped_and_resumed(
    name: str, overlap: str, whole: Callable[..., dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the prefill, in training, in an evaluation, and near the end."""
    expected = whole(name, async_collection=overlap)
    for resumed, after in ((False, 17), (True, 31), (True, 3), (True, 40)):
        with pytest.raises(Stopped):
            train(stopping(ENVIRONMENTS[name], after), tmp_path, resumed, async_collection=overlap)
    train(ENVIRONMENTS[name], tmp_path, resume=True, async_collection=overlap)
    assert digest(tmp_path) == expected
    assert "could not be put back" not in capsys.readouterr().out


def test_a_digest_is_of_what_was_computed(whole: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    expected = whole("retraced images", async_collection="off")
    train(environments.Catch, tmp_path, async_collection="off", seed=1)
    assert all(digest(tmp_path)[part] != value for part, value in expected.items())


def test_worker_processes_are_put_back(
    whole: Callable[..., dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, parallel = (
        whole("retraced images", async_collection="off"),
        {"env.parallel": True, "async_collection": "off"},
    )
    calls = itertools.count(1)

    def collect_and_stop(self: Collector, policy: Any) -> Any:
        if next(calls) == 30:
            os.kill(os.getpid(), signal.SIGTERM)
        return collect(self, policy)

    collect = Collector.collect
    monkeypatch.setattr(Collector, "collect", collect_and_stop)
    with pytest.raises(Stopped):
        train(environments.Catch, tmp_path, **parallel)
    train(environments.Catch, tmp_path, resume=True, **parallel)
    found = digest(tmp_path)
    # The configuration is part of a checkpoint's state, and says that there were worker processes.
    assert {name for name in found if found[name] != expected[name]} == {"state", "run"}


CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "reverie.training.trainer", "tests.training.test_resuming"])


def train_in_process(name: str, folder: str) -> None:
    train(ENVIRONMENTS[name], Path(folder), resume=True, async_collection="off")


@pytest.mark.parametrize("name", ["retraced images", "a console's own state"])
def test_killed_at_any_instant(name: str, whole: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    expected = whole(name, async_collection="off")
    warm = CONTEXT.Process(target=int)  # The first one waits for the imports of the server.
    warm.start()
    warm.join()
    chance, kills, finished, longest = random.Random(0), 0, 0, 0.0
    while kills < 10 or not finished:
        process = CONTEXT.Process(target=train_in_process, args=(name, str(tmp_path / f"run-{finished}")))
        began = time.monotonic()
        process.start()
        process.join(chance.uniform(0.2, 0.7) * longest if longest and kills < 10 else None)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
            continue
        assert process.exitcode == 0
        longest = max(longest, time.monotonic() - began)
        assert digest(tmp_path / f"run-{finished}") == expected
        finished += 1


class Unrepeatable(environments.Catch):
    """Shows the time of day, so to say."""

    shown = itertools.count()

    def _draw(self) -> Any:
        image = super()._draw()
        image[0, 0] = next(self.shown) % 251
        return image


def test_an_environment_that_does_not_repeat_itself_is_found_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Stopped):
        train(stopping(Unrepeatable, 61), tmp_path)
    train(Unrepeatable, tmp_path, resume=True)
    told = " ".join(capsys.readouterr().out.split())
    assert "2 of 2 environments could not be put back" in told and "it does not repeat itself" in told
    assert told.count("could not be put back") == 1
    assert reverie.load(tmp_path).agent_steps == RUN["steps"]


def train_and_die(folder: str, after: int) -> None:
    """With environments that do not repeat themselves; killed in the middle of a step."""
    steps = itertools.count(1)

    class Deadly(Unrepeatable):
        def step(self, action: Any) -> Any:
            if next(steps) == after:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().step(action)

    Deadly.__qualname__ = Unrepeatable.__qualname__
    run_state.TRANSACTION_STEPS = 1  # Else those of the open transaction are lost.
    train(Deadly, Path(folder), **KILLED)


KILLED: dict[str, Any] = {"env.time_limit": 7, "eval_every": 0, "video_every": 0, "steps": 200}


def killed(folder: Path, after: int) -> None:
    process = CONTEXT.Process(target=train_and_die, args=(str(folder), after))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("after", [95, 150, 153])
def test_steps_that_cannot_be_collected_again_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], after: int
) -> None:
    """They are in the replay, in the count of steps, and learned from as often as others."""
    killed(tmp_path, after)
    newest = max((tmp_path / "checkpoints").glob("step-*"))
    saved = int(newest.name.split("-")[1])
    stored = (after - 1) // 2 * 2  # both environments' or none
    assert saved < stored
    assert not verify(tmp_path).damage
    train(Unrepeatable, tmp_path, resume=True, **KILLED)
    told = " ".join(capsys.readouterr().out.split())
    assert f"The replay holds {stored - saved} steps more than at the checkpoint." in told
    assert f"goes on at step {stored}, once it has made up for" in told
    agent = reverie.load(tmp_path)
    assert agent.agent_steps == 200
    rows = ReplayBuffer(tmp_path / "replay.db", agent.spec.step, agent.config.replay, 2).num_steps
    # Resets are rows, but no steps: one for each episode, of which those that ran at the kill end there.
    assert rows - 200 == pytest.approx(200 / 7 + 2, abs=3)
    first = RUN["pretrain"] + RUN["pretrain_world_model"]
    assert agent.updates == first + 1 + (200 - 30) // 8  # the first step after the prefill is one that learns
    assert not verify(tmp_path).damage


def test_a_run_may_be_stopped_while_it_makes_up_for_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(tmp_path, 153)
    learn = Trainer._learn

    def learn_and_stop(self: Trainer, times: int) -> None:
        learn(self, times)
        if self.state.behind == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_learn", learn_and_stop)
        with pytest.raises(Stopped):
            train(Unrepeatable, tmp_path, resume=True, **KILLED)
    state = json.loads((max((tmp_path / "checkpoints").glob("step-*")) / "state.json").read_text())
    assert state["loop"]["state"]["behind"] == 1 and state["loop"]["state"]["steps"] == 152
    train(Unrepeatable, tmp_path, resume=True, **KILLED)
    first = RUN["pretrain"] + RUN["pretrain_world_model"]
    assert reverie.load(tmp_path).updates == first + 1 + (200 - 30) // 8


def no_pen(env: Any) -> Any:
    raise ValueError("no pen")


@pytest.mark.parametrize(
    ("save", "words"),
    [
        (no_pen, "it raised ValueError: no pen"),
        (lambda env: b"abc", "save_state did not return a dict of arrays by name"),
        (lambda env: {"all": env}, "save_state returned 'all', which is no array of numbers"),
    ],
)
def test_an_environment_that_cannot_be_saved_costs_its_episode_only(
    save: Callable[[Any], Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Speechless(environments.Catch):
        def save_state(self) -> Any:
            return save(self)

        def load_state(self, state: dict[str, Any]) -> None:
            raise AssertionError("there is nothing to load")

    with pytest.raises(Stopped):
        train(stopping(Speechless, 61), tmp_path)
    told = " ".join(capsys.readouterr().out.split())
    assert told.count(words) == 1 and "Checkpoints do without" in told
    train(Speechless, tmp_path, resume=True)
    assert "the checkpoint does not say where it stood" in " ".join(capsys.readouterr().out.split())


class Forgets(environments.Catch):
    """Says where its ball is, and puts it elsewhere."""

    def save_state(self) -> dict[str, Any]:
        return {"row": self.row, "column": self.column}

    def load_state(self, state: dict[str, Any]) -> None:
        self.row, self.column = 0, int(state["column"]) + 1


def test_an_environment_that_forgets_is_found_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Stopped):
        train(stopping(Forgets, 61), tmp_path)
    train(Forgets, tmp_path, resume=True)
    assert "save_state does not return what load_state was given" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("where", ["_video", "_checkpoint"])
def test_killed_while_it_is_finished(
    where: str, whole: Callable[..., dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last evaluation, or the last row of metrics; nothing is saved between these and the end."""
    expected = whole("retraced images", async_collection="off", checkpoint_every=48)

    def die(trainer: Trainer, *arguments: Any) -> Any:
        if trainer.state.evaluated_at if where == "_video" else trainer.state.finished_at:
            raise KeyboardInterrupt
        return method(trainer, *arguments)

    method = getattr(Trainer, where)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, where, die)
        with pytest.raises(KeyboardInterrupt):
            train(environments.Catch, tmp_path, async_collection="off", checkpoint_every=48)
    train(environments.Catch, tmp_path, resume=True, async_collection="off", checkpoint_every=48)
    assert digest(tmp_path) == expected


def train_and_die_at_the_first_checkpoint(folder: str) -> None:
    Checkpoints.save = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign,assignment]
    train(environments.Catch, Path(folder), async_collection="off")


def test_killed_before_the_first_checkpoint_begins_anew(whole: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    process = CONTEXT.Process(target=train_and_die_at_the_first_checkpoint, args=(str(tmp_path),))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and (tmp_path / "replay.db").exists()
    train(environments.Catch, tmp_path, resume=True, async_collection="off")
    assert digest(tmp_path) == whole("retraced images", async_collection="off")


class PipeBreaks(Exception):
    """Nobody reads what is displayed."""


def test_an_error_between_a_step_and_its_storing_leaves_no_hole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The environments are ahead of the replay then, and are not put back."""
    add = ReplayBuffer.add

    def fail_late(replay: ReplayBuffer, *arguments: Any) -> None:
        if replay.num_steps >= 50:
            raise PipeBreaks
        add(replay, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ReplayBuffer, "add", fail_late)
        with pytest.raises(PipeBreaks):
            train(asterix, tmp_path)
    train(asterix, tmp_path, resume=True)
    assert "the checkpoint does not say where it stood" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"env.num_envs": 3}, "env.num_envs was 2"),
        ({"env.time_limit": 25}, "env.time_limit was 20"),
        ({"threads": 2}, "threads 1 before, 2 now"),
    ],
)
def test_what_a_resumed_run_does_otherwise_is_said(
    settings: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Stopped):
        train(stopping(environments.Catch, 61), tmp_path)
    train(environments.Catch, tmp_path, resume=True, **settings)
    told = " ".join(capsys.readouterr().out.split())
    assert words in told and "has forgotten steps" not in told
