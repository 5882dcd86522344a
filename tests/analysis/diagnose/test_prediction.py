"""Open-loop errors: perfect and constant predictors, and the arithmetic against loops."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from reverie.acting import to_tensors
from reverie.analysis.diagnose import prediction
from reverie.analysis.diagnose.prediction import measure_prediction, open_loop_errors, squared_errors
from reverie.analysis.format import Measures
from reverie.config import preset
from reverie.dreamer import Dreamer, State
from reverie.dreamer.world_model import Batch
from reverie.specs import STEP_KEYS, ActionSpec, ArraySpec, EnvSpec
from tests.helpers.diagnosed_reports import predicted

SPEC = EnvSpec(
    {"image": ArraySpec((64, 64, 1), "uint8"), "speed": ArraySpec((2,), "float32")}, ActionSpec("discrete", (3,))
)
LENGTH, BATCH, CONTEXT = 8, 4, 3


@pytest.fixture(scope="module")
def agent() -> Dreamer:
    return Dreamer(preset("debug"), SPEC)


@pytest.fixture
def seen(agent: Dreamer) -> tuple[Batch, State]:
    """Return a batch whose sequence 1 starts an episode at step 5, and its posterior states."""
    rng = np.random.default_rng(0)
    steps = {
        key: rng.integers(0, 256, (LENGTH, BATCH, *spec.shape)).astype(spec.dtype)
        for key, spec in {**SPEC.observations, **STEP_KEYS}.items()
    }
    steps["action"] = np.eye(3, dtype=np.float32)[rng.integers(3, size=(LENGTH, BATCH))]
    steps["reward"] = rng.standard_normal((LENGTH, BATCH)).astype(np.float32)
    steps["is_first"] = np.zeros((LENGTH, BATCH), bool)
    steps["is_first"][0] = steps["is_first"][5, 1] = True
    with torch.no_grad():
        return agent.world_model.infer(to_tensors(steps, agent.device))[:2]


def means(data: Batch) -> dict[str, Tensor]:
    return {key: data[key].flatten(0, 1).mean(0) for key in ("image", "speed", "reward")}


@torch.no_grad()
def measure(agent: Dreamer, seen: tuple[Batch, State]) -> dict[str, Measures]:
    data, posterior = seen
    generator = torch.Generator().manual_seed(3)
    return {
        key: measure_prediction(sums, 5)
        for key, sums in open_loop_errors(agent, data, posterior, CONTEXT, means(data), generator).items()
    }


def predict(agent: Dreamer, monkeypatch: pytest.MonkeyPatch, values: Callable[[str], Tensor]) -> None:
    """Replace the heads."""
    model = agent.world_model
    monkeypatch.setattr(model.decoder, "images", lambda feat: {"image": values("image")})
    monkeypatch.setattr(model.decoder, "vectors", lambda feat: {"speed": values("speed")})
    monkeypatch.setattr(model, "reward", lambda feat: values("reward"))


def test_a_perfect_predictor(agent: Dreamer, seen: tuple[Batch, State], monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = seen
    predict(agent, monkeypatch, lambda key: data[key][CONTEXT - 1 :])
    for found in measure(agent, seen).values():
        assert found.model == pytest.approx([0] * 6, abs=1e-9)
        assert (found.useful, found.last_useful) == ("1 to 5", 5)
        assert found.near == pytest.approx(0, abs=1e-6)


def test_a_predictor_of_the_last_observation(
    agent: Dreamer, seen: tuple[Batch, State], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _ = seen
    predict(agent, monkeypatch, lambda key: data[key][CONTEXT - 1].expand(6, *data[key].shape[1:]))
    for found in measure(agent, seen).values():
        assert found.model == pytest.approx(found.repeat, rel=1e-5, abs=1e-9) and found.useful == "none"
        assert found.near == pytest.approx(1, rel=1e-5)


def test_a_constant_predictor(agent: Dreamer, seen: tuple[Batch, State], monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = seen
    mean = means(data)
    predict(agent, monkeypatch, lambda key: mean[key].expand(6, BATCH, *mean[key].shape))
    for found in measure(agent, seen).values():
        assert found.model == pytest.approx(found.mean, rel=1e-5)


def test_errors_against_a_loop() -> None:
    """Every number from its definition; sequence 1 ends after horizon 1, and no sequence reaches horizon 3."""
    generator = torch.Generator().manual_seed(0)
    guesses, actual = torch.rand((2, 4, 2, 3), generator=generator)
    mean = torch.rand(3, generator=generator)
    valid = torch.tensor([[True, True], [True, True], [True, False], [False, False]])
    found = measure_prediction(squared_errors(guesses, actual, mean, valid), 3)
    for h in range(3):
        kept = [b for b in range(2) if valid[h, b]]
        for name, guess in (("model", guesses[h]), ("repeat", actual[0]), ("mean", mean.expand(2, 3))):
            wanted = np.mean([((guess[b] - actual[h, b]) ** 2).mean().item() for b in kept])
            assert getattr(found, name)[h] == pytest.approx(wanted, rel=1e-5), (name, h)
    assert np.isnan(found.model[3]) and np.isnan(found.mean[3])
    assert (found.seen_error, found.planned_error) == (found.model[0], pytest.approx(np.mean(found.model[1:3])))


def test_batches_add_up() -> None:
    generator = torch.Generator().manual_seed(0)
    guesses, actual = torch.rand((2, 4, 6, 3), generator=generator)
    mean, valid = torch.zeros(3), torch.ones(4, 6, dtype=torch.bool)
    whole = squared_errors(guesses, actual, mean, valid)
    parts = [squared_errors(guesses[:, s], actual[:, s], mean, valid[:, s]) for s in (slice(0, 2), slice(2, 6))]
    assert whole.allclose(parts[0] + parts[1])


def test_imagination_follows_the_true_actions(
    agent: Dreamer, seen: tuple[Batch, State], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sample, step by step: the state after step `context` - 1 + h has taken actions up to that index."""
    monkeypatch.setattr(prediction, "SAMPLES", 1)
    data, posterior = seen
    found = measure(agent, seen)
    model = agent.world_model
    noise = model.rssm.latents.draw_noise((LENGTH - CONTEXT, BATCH), torch.Generator().manual_seed(3))
    state = posterior.map(lambda part: part[CONTEXT - 1])
    for h in range(LENGTH - CONTEXT + 1):
        with torch.no_grad():
            if h:
                state = model.rssm.imagine_step(state, data["action"][CONTEXT - 1 + h], noise[h - 1])
            image = model.decoder.images(state.feat)["image"].clamp(-0.5, 0.5)
        kept = [b for b in range(BATCH) if not data["is_first"][CONTEXT : CONTEXT + h, b].any()]
        wanted = (image - data["image"][CONTEXT - 1 + h]).square()[kept].mean().item()
        assert found["image"].model[h] == pytest.approx(wanted, rel=1e-4), h


def test_the_useful_horizons_are_the_longest_row_of_them() -> None:
    found = predicted([0, 3, 1, 3, 1, 1, np.nan], [0, 2, 2, 2, 2, 2, np.nan], [2] * 6 + [np.nan])
    assert (found.useful, found.last_useful) == ("4 to 5", 5)
    nothing_moves = predicted([0, 1], [0, 0], [1, 1])
    assert nothing_moves.useful == "none" and np.isnan(nothing_moves.near)
