"""Message about latents that carry nothing: its condition against closed forms, and a run in which it is printed."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import reverie
from reverie.dreamer import Dreamer
from reverie.specs import EnvSpec
from reverie.training import build
from reverie.training.callbacks import Run
from reverie.training.counters import Counters
from reverie.training.latents_check import FIRST_CHECK, LatentsCheck
from tests.helpers.agents import DICT, DISCRETE, random_steps, tiny
from tests.helpers.environments import Catch


def make(updates: int = 0) -> tuple[LatentsCheck, Dreamer, list[str], dict[str, Tensor]]:
    """Return the check of an agent, what it prints, and the losses of a decoder that shows the mean observation."""
    agent, printed = Dreamer(tiny(), EnvSpec(DICT, DISCRETE), seed=0), []
    agent.updates = updates
    steps = random_steps(agent.spec, (6, 4))
    check = LatentsCheck(lambda rng: steps)
    check.on_start(Run(Path(), agent.config, agent.spec, agent, Counters(), printed.append))
    losses = {}
    for key in DICT:
        scaled = steps[key] / 255 - 0.5 if steps[key].dtype == np.uint8 else steps[key]
        rows = scaled.reshape(24, -1).astype(np.float64)
        squares = (rows - rows.mean(0)) ** 2
        losses[f"model/{key}_loss"] = torch.tensor((squares + math.log(2 * math.pi)).sum(1).mean() / 2)
    return check, agent, printed, losses


def update(check: LatentsCheck, updates: int, kl: float, losses: dict[str, Tensor]) -> None:
    check.run.agent.updates = updates
    check.on_update(Counters(), {"model/kl": torch.tensor(kl), **losses})


def test_relative_error_is_1_for_the_mean_and_0_for_the_observation() -> None:
    check, _, _, mean = make()
    assert check.relative_error(mean) == pytest.approx(1, abs=1e-3)
    exact = {f"model/{key}_loss": torch.tensor(math.log(2 * math.pi) * spec.size / 2) for key, spec in DICT.items()}
    assert check.relative_error(exact) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(("kl", "share", "is_printed"), [(0.01, 1.0, True), (0.01, 0.5, False), (2.0, 1.0, False)])
def test_latents_check_prints_where_kl_is_small_and_error_large(kl: float, share: float, is_printed: bool) -> None:
    check, _, printed, mean = make()
    constants = {f"model/{key}_loss": math.log(2 * math.pi) * spec.size / 2 for key, spec in DICT.items()}
    update(
        check, FIRST_CHECK, kl, {key: constants[key] + share * (loss - constants[key]) for key, loss in mean.items()}
    )
    assert len(printed) == is_printed
    if printed:
        assert printed[0].startswith("After 2,000 updates the latents carry nothing (KL 0.01 nats), and the actor")


def test_latents_check_comes_after_four_times_as_many_updates_each_time() -> None:
    check, _, printed, mean = make()
    due = []
    for updates in range(0, 40_000, 500):
        before = len(printed)
        update(check, updates, 0.01, mean)
        due += [updates] * (len(printed) - before)
    assert due == [2_000, 8_000, 32_000]
    check, _, printed, mean = make(updates=8_000)  # a resumed run
    update(check, 8_001, 0.01, mean)
    assert not printed


def test_train_prints_that_the_latents_carry_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first updates of any run: the latents have not learned yet."""
    monkeypatch.setattr(build, "LatentsCheck", partial(LatentsCheck, next_check=4))
    settings: dict[str, Any] = {"env.parallel": False, "steps": 80, "prefill": 40, "train_every": 8, "eval_every": 0}
    reverie.train(Catch, "debug", logdir=tmp_path / "run", **settings)
    assert "After 4 updates the latents carry nothing" in capsys.readouterr().out
