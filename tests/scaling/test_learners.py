"""Several learners make the updates of one: on real processes that talk by gloo."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reverie import agents
from reverie.config import Config, ConfigError
from reverie.dreamer import Dreamer
from reverie.dreamer.agent import NONFINITE
from reverie.errors import RunError
from reverie.runs.metrics import read_metrics
from reverie.scaling import shared_update
from reverie.scaling.learners import shared_updates
from reverie.specs import EnvSpec
from tests.helpers.agents import CONTINUOUS, DICT, DISCRETE, random_steps, tensors, tiny
from tests.helpers.small_presets import VECTOR

BATCH, LENGTH = 6, 5
SETTINGS: dict[str, Any] = {
    "training__precision": "fp32",
    "replay__batch_size": BATCH,
    "replay__batch_length": LENGTH,
    "behavior__horizon": 4,
    "behavior__reward_norm__momentum": 0.9,
}
CASES: dict[str, tuple[EnvSpec, dict[str, Any]]] = {
    "discrete": (EnvSpec({"image": DICT["image"]}, DISCRETE), {"world_model__kl__free_nats": 1.0}),
    "continuous": (
        EnvSpec({"image": DICT["image"], "position": DICT["position"]}, CONTINUOUS),
        {"behavior__imagine_last": 3, "world_model__kl__free_average": False, "world_model__kl__free_nats": 0.5},
    ),
    "vector": (EnvSpec(VECTOR, DISCRETE), {"world_model__normalize_vectors": True}),
    "exploring": (
        EnvSpec(VECTOR, CONTINUOUS),
        {
            "training__explore": "plan2explore",
            "exploration__head__units": 8,
            "exploration__head__models": 3,
            "behavior__disagreement_penalty": 10.0,
        },
    ),
}
"""Observations, actions and settings; free nats are near the KL, so that it crosses them."""


def config_of(case: str, learners: int = 1) -> Config:
    return tiny(**SETTINGS, **CASES[case][1], training__learners=learners)


def build(case: str, learners: int = 1) -> Dreamer:
    return agents.build_agent(config_of(case, learners), CASES[case][0], seed=3)


def batch_of(case: str, update: int) -> dict[str, Tensor]:
    return tensors(random_steps(CASES[case][0], (LENGTH, BATCH), seed=update))


def train(agent: Dreamer, case: str, updates: range) -> list[dict[str, float]]:
    results = []
    for update in updates:
        agent.agent_steps = 10 * update
        train = agent.train_world_model if update < 3 else agent.train_step
        results.append({name: float(value) for name, value in train(batch_of(case, update)).items()})
    return results


def state_of(agent: Dreamer) -> dict[str, Tensor]:
    groups = agents.snapshot(agent).tensors.items()
    return {f"{group}/{name}": torch.as_tensor(value).clone() for group, part in groups for name, value in part.items()}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = float(value.double().square().mean().sqrt())
        assert torch.allclose(found[name].double(), value.double(), rtol=rtol, atol=rtol * scale + 1e-6), name


@pytest.fixture(autouse=True)
def _check_after_each_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_update, "CHECK_EVERY", 1)


@pytest.mark.parametrize("case", CASES)
def test_fifty_updates_by_two_then_three_then_one_learner_equal_those_of_one(case: str) -> None:
    alone = build(case)
    expected = train(alone, case, range(50))
    saved, found = None, list[dict[str, float]]()
    for learners, updates in ((2, range(25)), (3, range(25, 40)), (1, range(40, 50))):
        agent = build(case, learners)
        if saved is not None:
            agents.restore(agent, saved)
        with shared_updates(agent):
            found += train(agent, case, updates)
            saved = agents.snapshot(agent)
    assert_close(state_of(agent), state_of(alone), rtol=2e-3)
    for now, then in zip(found, expected, strict=True):
        assert now == pytest.approx(then, rel=2e-3, abs=1e-4)


def test_the_same_number_of_learners_gives_the_same_bits() -> None:
    states = []
    for _ in range(2):
        agent = build("discrete", 3)
        with shared_updates(agent):
            train(agent, "discrete", range(10))
            states.append(state_of(agent))
        assert type(agent) is agents.Agent
        train(agent, "discrete", range(10, 12))  # by itself
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_nonfinite_part_of_another_learner_skips_the_update_of_all() -> None:
    alone, agent = build("vector"), build("vector", 2)
    batch = batch_of("vector", 4)
    batch["reward"][2, BATCH - 1] = float("nan")  # a sequence of the second learner

    def train_with_nan(agent: Dreamer) -> dict[str, Tensor]:
        train(agent, "vector", range(4))
        weight = next(agent.actor_critic.actor.parameters()).clone()
        assert float(agent.train_step(batch)[NONFINITE]) == 1
        assert torch.equal(next(agent.actor_critic.actor.parameters()), weight)
        assert train(agent, "vector", range(5, 8))[-1][NONFINITE] == 0
        return state_of(agent)

    expected = train_with_nan(alone)
    with shared_updates(agent):
        found = train_with_nan(agent)
    assert_close(found, expected, rtol=2e-3)


def test_a_loss_between_two_updates_is_that_of_the_whole_batch() -> None:
    """The others wait for an update, and would never answer."""
    agent = build("discrete", 2)
    with shared_updates(agent):
        train(agent, "discrete", range(2))
        found = agent.world_model.loss(batch_of("discrete", 5), None, None).loss.item()
        train(agent, "discrete", range(2, 4))
    alone = build("discrete")
    train(alone, "discrete", range(2))
    assert found == pytest.approx(alone.world_model.loss(batch_of("discrete", 5), None, None).loss.item(), rel=1e-3)


def test_weights_that_differ_are_found() -> None:
    agent = build("vector", 2)
    with pytest.raises(RunError, match="weights of learner 1 differ from those of learner 0 after update 3"):  # noqa: SIM117
        with shared_updates(agent):
            train(agent, "vector", range(2))
            weight = next(agent.parameters())
            weight.data.view(-1)[0] = torch.nextafter(weight.data.view(-1)[0], torch.tensor(9.0))
            train(agent, "vector", range(2, 3))


def test_a_batch_that_cannot_be_divided_is_refused_with_the_numbers_that_can() -> None:
    with pytest.raises(ConfigError, match="can only be divided among 1, 2, 3 or 6; choose one"):
        config_of("vector", 4)


SMALL = {
    "env.num-envs": 1,
    "replay.batch-size": 6,
    "replay.batch-length": 8,
    "training.prefill": 40,
    "training.pretrain": 1,
    "training.train-every": 2,
    "training.eval-every": 0,
    "training.threads": 1,
    "training.log-every": 20,
    "training.checkpoint-every": 60,
    "log": "none",
}


def train_command(folder: Path, **settings: Any) -> list[str]:
    given = {**SMALL, **{key.replace("__", "."): value for key, value in settings.items()}}
    options = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return ["reverie", "train", "CartPole-v1", "--preset", "vector", "--logdir", str(folder), *options]


def find_learner(parent: int, rank: int) -> int:
    """Return the process id of a learner among the children of a run, once it has started."""
    ending = [b"reverie.scaling.learners", str(rank).encode(), b""]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            with suppress(OSError):  # a child of another kind, which has ended
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                if ending[0] in words and words[-2:] == ending[1:]:
                    return int(child)
        time.sleep(0.1)
    raise AssertionError(f"learner {rank} of process {parent} did not start")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
def test_a_killed_learner_ends_the_run_with_its_number_and_resume_continues(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = train_command(folder, training__steps=100_000, training__learners=3)
    run = subprocess.Popen([sys.executable, "-m", *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not any((folder / "checkpoints").glob("step-*[1-9]*/manifest.json")) and time.monotonic() < deadline:
        assert run.poll() is None
        time.sleep(0.1)
    victim = find_learner(run.pid, 2)
    os.kill(victim, signal.SIGKILL)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 1
    message = f"Learner 2 of 0 to 2 (process {victim}) was killed by SIGKILL. The run stops."
    assert message in " ".join(errors.decode().split())
    steps = read_metrics(folder)[-1]["step"]
    again = train_command(folder, training__steps=int(steps) + 200, training__learners=2)
    subprocess.run([sys.executable, "-m", *again, "--resume"], check=True, timeout=200, stdout=subprocess.DEVNULL)
    assert read_metrics(folder)[-1]["step"] == int(steps) + 200


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
def test_learner_killed_while_no_update_is_made_ends_the_run_with_its_number(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = train_command(folder, training__prefill=1_000_000, training__steps=2_000_000, training__learners=2)
    run = subprocess.Popen([sys.executable, "-m", *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (folder / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    victim = find_learner(run.pid, 1)
    os.kill(victim, signal.SIGKILL)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 1
    message = f"Learner 1 of 0 to 1 (process {victim}) was killed by SIGKILL. The run stops."
    assert message in " ".join(errors.decode().split())
    assert max((folder / "checkpoints").iterdir()).name > "step-000000000"


def test_torchrun_starts_the_learners(tmp_path: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--"]
    arguments = train_command(tmp_path / "run", training__steps=100)
    done = subprocess.run(
        [sys.executable, *launcher, *arguments], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Training on CartPole-v1") == 1
    assert read_metrics(tmp_path / "run")[-1]["step"] == 100
    assert "learners = 2" in (tmp_path / "run" / "config.toml").read_text()
    again = subprocess.run(
        [sys.executable, *launcher, *arguments, "--resume"], capture_output=True, text=True, timeout=99
    )
    assert again.returncode == 0 and "nothing was trained" in again.stdout
