"""Callbacks: when they are called and with what, how they end a run, and that they change nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import Callback, Stop
from reverie.runs.checkpoint import read_state
from reverie.runs.checkpoints import Checkpoints
from reverie.runs.digest import digest
from reverie.runs.metrics import read_metrics, read_rows
from reverie.training.callbacks import CallbackList
from reverie.training.metrics_log import numeric_entries
from tests.helpers import environments

SETTINGS: dict[str, Any] = {
    **{"env.parallel": False, "steps": 60, "prefill": 24, "train_every": 8, "pretrain": 2, "eval_every": 20},
    **{"eval_episodes": 2, "log_every": 20, "checkpoint_every": 30, "video_every": 0, "async_collection": "off"},
}
HOOKS = ("on_start", "on_step", "on_update", "on_episode", "on_evaluation", "on_checkpoint", "on_end")


class Scored(environments.Counting):
    """Episodes of seven steps; the last one has a nested `info`, the others another one."""

    def __init__(self) -> None:
        super().__init__(7)

    def step(self, action: Any) -> environments.Result:
        """Count, and describe the episode."""
        observation, reward, terminated, truncated, _ = super().step(action)
        info: dict[str, Any] = {"step": self.steps}
        if terminated:
            count = self.episodes
            info = {
                "success": True,
                "goal": {"distance": np.float32(0.5), "name": "door"},
                "count": count,
                "nan": np.nan,
            }
        return observation, reward, terminated, truncated, info


def train(logdir: Path, *callbacks: Callback, env: Any = Scored, **settings: Any) -> reverie.Dreamer:
    return reverie.train(env, "debug", logdir=logdir, callbacks=callbacks, **{**SETTINGS, **settings})


class Recorder(Callback):
    """Records each call with its arguments."""

    def __init__(self, calls: list[tuple[Any, ...]] | None = None) -> None:
        self.calls = [] if calls is None else calls

    def __getattribute__(self, name: str) -> Any:
        if name not in HOOKS:
            return super().__getattribute__(name)

        def record(*arguments: Any) -> None:
            values = [
                (argument.steps, argument.updates) if hasattr(argument, "updates") else argument
                for argument in arguments
            ]
            self.calls.append((name, *values))

        return record

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """Return the arguments of each call of a method."""
        return [arguments for called, *arguments in self.calls if called == name]


class Ends(Callback):
    """Returns `Stop`, or raises, at the first call of one method after so many steps."""

    def __init__(self, method: str, after: int = 0, error: Exception | None = None) -> None:
        self._steps = 0
        self._after, self._error = after, error
        setattr(self, method, self._end)

    def on_start(self, run: reverie.training.callbacks.Run) -> None:
        """Keep the counters."""
        self._counters = run.counters

    def _end(self, *_: object) -> Stop | None:
        if self._counters.steps < self._after:
            return None
        if self._error:
            raise type(self._error)(*self._error.args)
        return Stop("Enough.")


# Calls


def test_callback_is_called_at_each_event_in_order(tmp_path: Path) -> None:
    recorder = Recorder()
    agent = train(tmp_path, recorder)
    names = [name for name, *_ in recorder.calls]
    assert names[:2] == ["on_start", "on_checkpoint"] and names[-2:] == ["on_end", "on_checkpoint"]
    assert set(names) == set(HOOKS)
    # An episode is reported before the step that ended it, a checkpoint after that step.
    at_28 = recorder.calls.index(("on_step", (28, 3), *recorder.named("on_step")[27][1:]))
    assert names[at_28 - 1] == "on_episode"
    [steps] = [[counters[0] for counters, _ in recorder.named("on_step")]]
    assert steps == [*range(1, 61)]
    assert [updates for (_, updates), _ in recorder.named("on_update")] == [*range(1, agent.updates + 1)]


def test_callback_on_start_gets_the_run(tmp_path: Path) -> None:
    recorder = Recorder()
    agent = train(tmp_path, recorder)
    [[run]] = recorder.named("on_start")
    assert run.path == tmp_path and run.config == agent.config and run.spec == agent.spec
    assert run.agent is agent
    assert (run.counters.steps, run.counters.episodes, run.counters.updates) == (60, 8, agent.updates)


@pytest.mark.parametrize("collection", ["off", "on"])
def test_callback_on_step_gets_every_transition_once(collection: str, tmp_path: Path) -> None:
    recorder = Recorder()
    train(tmp_path, recorder, async_collection=collection, **{"env.num_envs": 2})
    calls = recorder.named("on_step")
    assert all(transitions for _, transitions in calls)
    transitions = [transition for _, found in calls for transition in found]
    assert sum(transition.num_steps for transition in transitions) == 60
    counts = np.cumsum([sum(transition.num_steps for transition in found) for _, found in calls])
    assert [steps for (steps, _), _ in calls] == counts.tolist()
    observed = [step["vector"][0, 0] for transition in transitions for step, mask in transition.steps if mask[0]]
    assert observed == ([*range(8)] * 5)[: len(observed)]


def test_callback_on_episode_gets_return_length_environment_and_info(tmp_path: Path) -> None:
    recorder = Recorder()
    train(tmp_path, recorder, **{"env.num_envs": 2})
    episodes = [episode for [episode] in recorder.named("on_episode")]
    assert [episode.env for episode in episodes] == [0, 1] * 4
    assert all((episode.return_, episode.length) == (28, 7) for episode in episodes)
    assert [episode.info["count"] for episode in episodes] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert episodes[0].info["goal"] == {"distance": 0.5, "name": "door"} and "step" not in episodes[0].info


@pytest.mark.parametrize("parallel", [False, True])
def test_episode_info_numbers_are_metrics(parallel: bool, tmp_path: Path) -> None:
    train(tmp_path, **{"env.parallel": parallel, "env.num_envs": 2, "eval_every": 0})
    rows = [row for row in read_metrics(tmp_path) if "episode/return" in row]
    assert [row["episode/info/success"] for row in rows] == [1.0] * len(rows)
    assert [row["episode/info/goal/distance"] for row in rows] == [0.5] * len(rows)
    assert rows[0]["episode/info/count"] == 1.0
    names = {name for row in rows for name in row if name.startswith("episode/info/")}
    assert names == {"episode/info/success", "episode/info/goal/distance", "episode/info/count"}


def test_numeric_entries_are_finite_numbers_with_joined_names() -> None:
    info = {
        **{"int": 3, "float": 0.5, "flag": np.bool_(True), "zero": np.array(2.0), "nan": np.nan, "text": "x"},
        **{"array": np.zeros(3), "none": None, "a": {"b": {"c": np.int8(-1)}, "d": [1]}, "inf": -np.inf, 7: 1},
    }
    assert dict(numeric_entries(info)) == {"int": 3, "float": 0.5, "flag": 1, "zero": 2, "a/b/c": -1, "7": 1}


def test_callback_on_evaluation_gets_the_episodes_of_the_step(tmp_path: Path) -> None:
    recorder = Recorder()
    train(tmp_path, recorder)
    results = [result for [result] in recorder.named("on_evaluation")]
    found = [(row["step"], tuple(row["eval/returns"])) for row in read_rows(tmp_path) if "eval/returns" in row]
    assert [(result.step, result.returns) for result in results] == found
    assert [step for step, _ in found] == [24, 44, 60]
    assert [result.is_final for result in results] == [False, False, True]
    assert results[0].mean_return == 28 and results[0].episodes[0].info["success"]


def test_callback_on_checkpoint_gets_a_folder_that_can_be_read(tmp_path: Path) -> None:
    agents: list[int] = []

    class Reads(Callback):
        def on_checkpoint(self, path: Path) -> None:
            agents.append(reverie.load(path).agent_steps)

    train(tmp_path, Reads())
    assert agents == sorted(agents) and agents[0] == 0 and agents[-1] == 60 and {30, 60} <= set(agents)


def test_callback_on_end_comes_after_evaluation_and_row_and_before_the_checkpoint(tmp_path: Path) -> None:
    seen: list[tuple[list[float], int]] = []

    class Looks(Callback):
        def on_end(self) -> None:
            evaluations = [row["step"] for row in read_metrics(tmp_path) if "eval/return" in row]
            newest = Checkpoints(tmp_path / "checkpoints").latest()
            assert newest is not None
            seen.append((evaluations, read_state(newest)["training"]["counters"]["finished_at"]))

    train(tmp_path, Looks())
    assert seen == [([24, 44, 60], 0)]


def test_callbacks_are_called_in_the_given_order(tmp_path: Path) -> None:
    calls: list[tuple[Any, ...]] = []

    class Second(Recorder):
        def __getattribute__(self, name: str) -> Any:
            if name not in HOOKS:
                return super().__getattribute__(name)
            return lambda *_: self.calls.append((f"second {name}",))

    train(tmp_path, Recorder(calls), Second(calls), eval_every=0)
    names = [name for name, *_ in calls]
    assert names[1::2] == [f"second {name}" for name in names[::2]]


def test_callback_list_without_the_base_class_is_refused() -> None:
    with pytest.raises(TypeError, match="A dict is not a callback"):
        CallbackList(iter([{}]))  # type: ignore[list-item]


def test_callback_list_keeps_the_first_stop() -> None:
    class Stops(Callback):
        def __init__(self, reason: str) -> None:
            self._reason = reason

        def on_end(self) -> Stop:
            return Stop(self._reason)

    callbacks = CallbackList([Callback(), Stops("first"), Stops("second")])
    assert callbacks.stop is None
    callbacks.on_end(is_interrupted=lambda: False)
    assert callbacks.stop == Stop("first")


# Ends of a run


@pytest.mark.parametrize("collection", ["off", "on"])
@pytest.mark.parametrize("method", ["on_step", "on_update", "on_episode", "on_evaluation", "on_checkpoint"])
def test_callback_stop_ends_the_run_with_evaluation_row_and_checkpoint(
    method: str, collection: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder()
    agent = train(tmp_path, Ends(method, after=26), recorder, async_collection=collection)
    steps = agent.agent_steps
    assert 26 <= steps < 60
    assert f"Training ends at step {steps}. Enough." in capsys.readouterr().out
    last = [row for row in read_metrics(tmp_path) if row["step"] == steps]
    assert any("eval/return" in row for row in last)
    names = [name for row in last for name in row if name not in ("step", "frames", "time", "updates")]
    assert "time/collect" in names and len(names) == len({*names})
    assert reverie.load(tmp_path).agent_steps == steps
    newest = Checkpoints(tmp_path / "checkpoints").latest()
    assert newest is not None and read_state(newest)["training"]["counters"]["finished_at"] == steps
    assert len(recorder.named("on_end")) == 1


@pytest.mark.parametrize("method", ["on_start", "on_step", "on_episode"])
def test_callback_stop_in_the_prefill_ends_the_run(method: str, tmp_path: Path) -> None:
    """There is no episode yet, and nothing that could be drawn for a video."""
    stop = Ends(method)
    if method == "on_start":
        stop.on_start = lambda run: Stop("Enough.")  # type: ignore[method-assign]
    agent = train(
        tmp_path, stop, env=environments.Catch, video_every=20, **{"env.time_limit": 0 if method != "on_episode" else 5}
    )
    assert agent.agent_steps == {"on_start": 0, "on_step": 1, "on_episode": 5}[method]
    assert reverie.load(tmp_path).agent_steps == agent.agent_steps


def test_callback_stopped_run_continues_when_it_is_resumed(tmp_path: Path) -> None:
    train(tmp_path, Ends("on_step", after=30))
    assert train(tmp_path, resume=True).agent_steps == 60


@pytest.mark.parametrize("collection", ["off", "on"])
@pytest.mark.parametrize("method", [hook for hook in HOOKS if hook != "on_start"])
def test_callback_error_ends_the_run_with_a_checkpoint_and_its_own_traceback(
    method: str, collection: str, tmp_path: Path
) -> None:
    recorder = Recorder()
    ends = Ends(method, after=26, error=ZeroDivisionError("mine"))
    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        train(tmp_path, recorder, ends, async_collection=collection)
    assert caught.value.__notes__ == [f"Raised by the callback Ends in {method}."]
    assert "_end" in [entry.name for entry in caught.traceback]
    [[run]] = recorder.named("on_start")
    assert reverie.load(tmp_path).agent_steps == run.counters.steps >= 26


def test_callback_that_raises_in_every_checkpoint_keeps_the_first_error(tmp_path: Path) -> None:
    class Fails(Callback):
        def __init__(self) -> None:
            self._count = 0

        def on_checkpoint(self, path: Path) -> None:
            self._count += 1
            raise ValueError(f"number {self._count}")

    with pytest.raises(ValueError, match="number 1"):
        train(tmp_path, Fails())


# State


class Counts(Callback):
    """Counts steps, and says from where it was restored."""

    def __init__(self) -> None:
        self.steps, self.restored = 0, None

    def on_step(self, counters: Any, transitions: Sequence[Any]) -> None:
        """Count them."""
        self.steps += sum(transition.num_steps for transition in transitions)

    def state_dict(self) -> dict[str, Any]:
        """Return the count."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self.steps = self.restored = state["steps"]


@pytest.mark.parametrize("collection", ["off", "on"])
def test_callback_state_is_restored_before_the_start(collection: str, tmp_path: Path) -> None:
    at_start: list[int] = []

    class Looks(Counts):
        def on_start(self, run: Any) -> None:
            at_start.append(self.steps)

    train(tmp_path, Looks(), async_collection=collection)
    counts = Looks()
    train(tmp_path, counts, async_collection=collection, resume=True, steps=80)
    assert counts.restored == 60 and counts.steps == 80
    assert at_start == [0, 60]


def test_callback_of_another_class_starts_without_a_state_and_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, Counts(), Recorder())
    recorder = Recorder()
    train(tmp_path, recorder, resume=True, steps=70)
    assert "The checkpoint has callbacks Counts, Recorder, this run Recorder." in " ".join(
        capsys.readouterr().out.split()
    )
    assert len(recorder.named("on_start")) == 1


@pytest.mark.parametrize("collection", ["off", "on"])
def test_run_with_callbacks_has_the_digest_of_one_without(collection: str, tmp_path: Path) -> None:
    train(tmp_path / "without", async_collection=collection)
    train(tmp_path / "with", Recorder(), Counts(), async_collection=collection)
    assert digest(tmp_path / "with") == digest(tmp_path / "without")
