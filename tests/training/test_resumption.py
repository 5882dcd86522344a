"""A run that was stopped, or killed, and resumed is bit for bit the run that was never stopped."""

import itertools
import multiprocessing
import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gymnasium.envs.classic_control import PendulumEnv

import reverie
from reverie import Callback
from reverie.collectors.sync_collector import SyncCollector
from reverie.config import EnvConfig
from reverie.envs.atari import Atari
from reverie.envs.minatar import MinAtar
from reverie.replay import ReplayBuffer, ReplayReader
from reverie.runs.checkpoints import Checkpoints
from reverie.runs.digest import digest
from reverie.runs.verify import verify
from reverie.training.checkpointing import Checkpointing
from reverie.training.counters import Counters
from reverie.training.env_states import MISSING
from reverie.training.metrics_log import MetricsLog
from reverie.training.resumption import later_steps
from reverie.training.stop_signal import Interrupted
from reverie.training.videos import Videos
from tests.helpers import environments

RUN: dict[str, Any] = {
    **{"env.parallel": False, "env.num_envs": 2, "env.time_limit": 20, "threads": 1, "steps": 96, "prefill": 30},
    **{"pretrain": 2, "pretrain_world_model": 3, "train_every": 8, "eval_every": 30, "eval_episodes": 1},
    **{"log_every": 12, "video_every": 50, "checkpoint_every": 26, "keep_checkpoints": 2},
}


def boxing() -> Atari:
    return Atari("boxing", EnvConfig(action_repeat=4, noop_max=3))


def asterix() -> MinAtar:
    return MinAtar("asterix")


ENVIRONMENTS: dict[str, Callable[[], Any]] = {
    "replayed images": environments.Catch,
    "replayed continuous actions": PendulumEnv,
    "a console's own state": boxing,
    "a package's own state": asterix,
}


def train(env: Callable[[], Any], logdir: Path, resume: bool = False, **settings: Any) -> None:
    reverie.train(env, "debug", logdir=logdir, resume=resume, **{**RUN, **settings})


def stopping(env: Callable[[], Any], after: int) -> Callable[[], Any]:
    """Return a factory of environments that stop the run with a signal after so many steps in all.

    Steps that are replayed while a run is restored do not count: the signal has no handler then.
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


ASYNC = [(name, "on") for name in ("replayed images", "a console's own state")]


@pytest.mark.parametrize(("name", "collection"), [*((name, "off") for name in ENVIRONMENTS), *ASYNC])
def test_run_interrupted_and_resumed_has_the_digest_of_the_whole(
    name: str, collection: str, whole: Callable[..., dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Interrupted in the prefill, in training, in an evaluation, and near the end."""
    expected = whole(name, async_collection=collection)
    for resumed, after in ((False, 17), (True, 31), (True, 3), (True, 40)):
        with pytest.raises(Interrupted):
            train(stopping(ENVIRONMENTS[name], after), tmp_path, resumed, async_collection=collection)
    train(ENVIRONMENTS[name], tmp_path, resume=True, async_collection=collection)
    assert digest(tmp_path) == expected
    assert "could not be restored" not in capsys.readouterr().out


def test_digest_with_another_seed_differs_in_every_part(whole: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    expected = whole("replayed images", async_collection="off")
    train(environments.Catch, tmp_path, async_collection="off", seed=1)
    assert all(digest(tmp_path)[part] != value for part, value in expected.items())


def test_run_in_worker_processes_interrupted_and_resumed_has_the_digest_of_the_whole(
    whole: Callable[..., dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = whole("replayed images", async_collection="off")
    parallel = {"env.parallel": True, "async_collection": "off"}
    calls = itertools.count(1)

    def step_and_stop(self: SyncCollector, *arguments: Any, **options: Any) -> Any:
        if next(calls) == 30:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *arguments, **options)

    step = SyncCollector.step
    monkeypatch.setattr(SyncCollector, "step", step_and_stop)
    with pytest.raises(Interrupted):
        train(environments.Catch, tmp_path, **parallel)
    train(environments.Catch, tmp_path, resume=True, **parallel)
    found = digest(tmp_path)
    # The configuration is part of a checkpoint's state, and says that there were worker processes.
    assert {name for name in found if found[name] != expected[name]} == {"state", "run"}


CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "reverie.training.trainer", "tests.training.test_resumption"])


def train_in_process(name: str, folder: str, collection: str) -> None:
    train(ENVIRONMENTS[name], Path(folder), resume=True, async_collection=collection)


@pytest.mark.parametrize(
    ("name", "collection"), [("replayed images", "off"), ("a console's own state", "off"), ("replayed images", "on")]
)
def test_run_killed_at_any_instant_has_the_digest_of_the_whole(
    name: str, collection: str, whole: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    expected = whole(name, async_collection=collection)
    warm = CONTEXT.Process(target=int)  # The first one waits for the imports of the server.
    warm.start()
    warm.join()
    chance, kills, finished, longest = random.Random(0), 0, 0, 0.0
    while kills < 10 or not finished:
        arguments = (name, str(tmp_path / f"run-{finished}"), collection)
        process = CONTEXT.Process(target=train_in_process, args=arguments)
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
    """Shows a number that no state holds."""

    shown = itertools.count()

    def _draw(self) -> Any:
        image = super()._draw()
        image[0, 0] = next(self.shown) % 251
        return image


def test_resume_of_an_environment_that_is_not_deterministic_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Interrupted):
        train(stopping(Unrepeatable, 61), tmp_path)
    train(Unrepeatable, tmp_path, resume=True)
    printed = " ".join(capsys.readouterr().out.split())
    assert "2 of 2 environments could not be restored" in printed and "it is not deterministic" in printed
    assert printed.count("could not be restored") == 1
    assert reverie.load(tmp_path).agent_steps == RUN["steps"]


class Unsavable(Unrepeatable):
    """Cannot be restored, and says so: every step is stored at once."""

    def save_state(self) -> Any:
        """Fail."""
        raise ValueError("no pen")

    def load_state(self, state: dict[str, Any]) -> None:
        """Fail."""
        raise AssertionError("there is nothing to load")


def train_and_die(folder: str, after: int) -> None:
    """Train in environments that cannot be restored, and get killed in the middle of a step."""
    steps = itertools.count(1)

    class Deadly(Unsavable):
        def step(self, action: Any) -> Any:
            if next(steps) == after:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().step(action)

    Deadly.__qualname__ = Unsavable.__qualname__
    train(Deadly, Path(folder), **KILLED)


KILLED: dict[str, Any] = {"env.time_limit": 7, "eval_every": 0, "video_every": 0, "steps": 200}


def killed(folder: Path, after: int) -> None:
    process = CONTEXT.Process(target=train_and_die, args=(str(folder), after))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("after", [95, 150, 153])
def test_resume_keeps_steps_that_cannot_be_collected_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], after: int
) -> None:
    """They are in the replay and in the count of steps, and updates are due for them as for others."""
    killed(tmp_path, after)
    newest = max((tmp_path / "checkpoints").glob("step-*"))
    saved = int(newest.name.split("-")[1])
    stored = (after - 1) // 2 * 2  # both environments' or none
    assert saved < stored
    assert not verify(tmp_path).damage
    train(Unsavable, tmp_path, resume=True, **KILLED)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"Continuing from step {saved} of 200. {stored - saved} later steps are kept from the replay." in printed
    agent = reverie.load(tmp_path)
    assert agent.agent_steps == 200
    with ReplayReader(tmp_path / "replay.db", agent.spec.step) as replay:
        rows = replay.num_steps
    # Resets are rows, but no steps: one for each episode, of which those that ran at the kill end there.
    assert rows - 200 == pytest.approx(200 / 7 + 2, abs=3)
    first = RUN["pretrain"] + RUN["pretrain_world_model"]
    assert agent.updates == first + 1 + (200 - 30) // 8  # the first step after the prefill is one that learns
    assert not verify(tmp_path).damage


class StopsWhileCatchingUp(Callback):
    """Sends a signal after the first update."""

    def on_update(self, counters: Counters, metrics: object) -> None:
        """Send it."""
        os.kill(os.getpid(), signal.SIGTERM)


def test_run_interrupted_while_it_catches_up_makes_the_other_updates_when_resumed(tmp_path: Path) -> None:
    killed(tmp_path, 153)
    with pytest.raises(Interrupted):
        train(Unsavable, tmp_path, resume=True, callbacks=[StopsWhileCatchingUp()], **KILLED)
    agent = reverie.load(tmp_path)
    first = RUN["pretrain"] + RUN["pretrain_world_model"]
    assert agent.agent_steps == 152 and agent.updates < first + 1 + (152 - 30) // 8
    train(Unsavable, tmp_path, resume=True, **KILLED)
    assert reverie.load(tmp_path).updates == first + 1 + (200 - 30) // 8


@pytest.mark.parametrize(
    ("count", "num_kept", "words"),
    [
        (0, 0, ""),
        (1198, 0, " 1,198 later steps are collected again."),
        (198, 198, " 198 later steps are kept from the replay."),
        (198, 90, " 90 of 198 later steps are kept from the replay, the others are collected again."),
    ],
)
def test_later_steps_are_kept_or_collected_again(count: int, num_kept: int, words: str) -> None:
    assert later_steps(count, num_kept) == words


def train_and_die_at_step(folder: str, after: int) -> None:
    class Dies(Callback):
        def on_step(self, counters: Counters, transitions: object) -> None:
            if counters.steps == after:
                os.kill(os.getpid(), signal.SIGKILL)

    train(environments.Catch, Path(folder), callbacks=[Dies()])


def test_resume_after_a_kill_reports_the_steps_that_are_collected_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = CONTEXT.Process(target=train_and_die_at_step, args=(str(tmp_path), 72))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    train(environments.Catch, tmp_path, resume=True)
    printed = " ".join(capsys.readouterr().out.split())
    assert "Continuing from step 52 of 96. 20 later steps are collected again." in printed


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
def test_environment_that_cannot_be_saved_begins_a_new_episode(
    save: Callable[[Any], Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Speechless(environments.Catch):
        def save_state(self) -> Any:
            return save(self)

        def load_state(self, state: dict[str, Any]) -> None:
            raise AssertionError("there is nothing to load")

    with pytest.raises(Interrupted):
        train(stopping(Speechless, 61), tmp_path)
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count(words) == 1 and "Checkpoints lack its state" in printed
    train(Speechless, tmp_path, resume=True)
    assert MISSING in " ".join(capsys.readouterr().out.split())


class Forgets(environments.Catch):
    """Saves where its ball is, and loads it elsewhere."""

    def save_state(self) -> dict[str, Any]:
        return {"row": self.row, "column": self.column}

    def load_state(self, state: dict[str, Any]) -> None:
        self.row, self.column = 0, int(state["column"]) + 1


def test_environment_with_an_incomplete_state_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Interrupted):
        train(stopping(Forgets, 61), tmp_path)
    train(Forgets, tmp_path, resume=True)
    printed = " ".join(capsys.readouterr().out.split())
    assert re.search("save_state does not return .*load_state was given", printed)


@pytest.mark.parametrize("part", [Videos, MetricsLog, Checkpointing])
def test_run_killed_while_it_ends_has_the_digest_of_the_whole(
    part: type[Callback], whole: Callable[..., dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed after the last evaluation, the last video, or the last row of metrics."""
    expected = whole("replayed images", async_collection="off", checkpoint_every=48)

    def die(self: Callback) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(part, "on_end", die)
        with pytest.raises(KeyboardInterrupt):
            train(environments.Catch, tmp_path, async_collection="off", checkpoint_every=48)
    train(environments.Catch, tmp_path, resume=True, async_collection="off", checkpoint_every=48)
    assert digest(tmp_path) == expected


def train_and_die_at_the_first_checkpoint(folder: str) -> None:
    Checkpoints.save = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign,assignment]
    train(environments.Catch, Path(folder), async_collection="off")


def test_run_killed_before_the_first_checkpoint_starts_over(
    whole: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    process = CONTEXT.Process(target=train_and_die_at_the_first_checkpoint, args=(str(tmp_path),))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and (tmp_path / "replay.db").exists()
    train(environments.Catch, tmp_path, resume=True, async_collection="off")
    assert digest(tmp_path) == whole("replayed images", async_collection="off")


class PipeBreaks(Exception):
    """The reader of what is displayed has gone."""


def test_error_between_a_step_and_its_storing_leaves_no_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The environments are ahead of the replay then, and are not restored."""
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
    assert MISSING in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"env.num_envs": 3}, "there were 2 environments"),
        ({"env.time_limit": 25}, "env.time_limit was 20"),
        ({"threads": 2}, "threads 1 before, 2 now"),
    ],
)
def test_resume_with_other_settings_reports_what_differs(
    settings: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Interrupted):
        train(stopping(environments.Catch, 61), tmp_path)
    train(environments.Catch, tmp_path, resume=True, **settings)
    printed = " ".join(capsys.readouterr().out.split())
    assert words in printed and "has lost steps" not in printed
