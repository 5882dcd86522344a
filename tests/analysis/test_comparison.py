"""Runs grouped and scored at common frames, against numbers worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from reverie.analysis.comparison import Comparison, Entry, compare
from reverie.analysis.runs import Run, read_run
from reverie.analysis.statistics import suite_scores
from tests.helpers.fake_runs import write_run

BOXING, PONG = "ALE/Boxing-v5", "ALE/Pong-v5"


@pytest.fixture
def make(tmp_path: Path) -> Any:
    """Writes a run and reads it."""
    numbers = iter(range(1000))

    def _make(level: float | None = None, **arguments: Any) -> Run:
        if level is not None:
            arguments["evaluations"] = lambda frames: level
        return read_run(write_run(tmp_path / str(next(numbers)), **arguments))

    return _make


def only(comparison: Comparison) -> Entry:
    (entry,) = comparison.entries
    return entry


def test_scores_of_finished_seeds(make: Any) -> None:
    found = compare([make(10, seed=2), make(20, seed=0), make(60, seed=1)])
    entry = only(found)
    assert (entry.agent, entry.n, entry.frames) == ("atari-small", 3, 1_000_000)
    assert [run.seed for run in entry.runs] == [0, 1, 2]
    assert entry.values.tolist() == [20, 60, 10]
    assert entry.mean == 30
    assert entry.std == pytest.approx(((100 + 900 + 400) / 2) ** 0.5)


@pytest.mark.parametrize("levels", [[10, 20], [500, 500, 500], [1, 2, 4, 8]])
def test_interval_is_student_t_of_the_mean(make: Any, levels: list[float]) -> None:
    entry = only(compare([make(level, seed=seed, env="Own-v0") for seed, level in enumerate(levels)]))
    reach = stats.t.ppf(0.975, len(levels) - 1) * np.std(levels, ddof=1) / len(levels) ** 0.5
    assert entry.interval == pytest.approx((np.mean(levels) - reach, np.mean(levels) + reach))


def test_interval_of_one_seed_is_nan(make: Any) -> None:
    assert np.isnan(only(compare([make(1)])).interval).all()


def test_unequal_lengths_are_compared_at_the_least(make: Any) -> None:
    """The shorter run has 600k frames: both scores are of 550k and 600k."""
    runs = [make(seed=0, evaluations=lambda f: f / 1e6), make(seed=1, reached=600_000, evaluations=lambda f: f / 5e5)]
    entry = only(compare(runs))
    assert entry.frames == 600_000
    assert entry.values == pytest.approx([0.575, 1.15])


def test_a_run_that_stopped_early_does_not_shorten_the_others(make: Any) -> None:
    runs = [make(1, seed=0), make(3, seed=1), make(100, seed=2, reached=450_000)]
    entry = only(compare(runs))
    assert (entry.frames, entry.mean, entry.n, len(entry.runs), len(entry.counted)) == (1_000_000, 2, 2, 3, 2)


def test_frames_that_are_asked_for(make: Any) -> None:
    runs = [make(seed=0, evaluations=lambda f: f), make(5, seed=1, reached=450_000)]
    entry = only(compare(runs, frames=400_000))
    assert entry.values.tolist() == [pytest.approx(400_000), 5]
    entry = only(compare(runs, frames=500_000))
    assert entry.values.tolist() == [pytest.approx(475_000)]
    assert only(compare(runs, frames=5e6)).n == 0


def test_the_run_of_a_seed_that_got_farthest_counts(make: Any) -> None:
    short, long = make(1, seed=0, reached=600_000), make(2, seed=0)
    found = compare([short, long])
    assert found.doubles == (short,)
    assert only(found).runs == (long,)


def test_agents_and_environments(make: Any) -> None:
    runs = [make(1), make(2, variant="gaussian-latents"), make(3, env=PONG), make(4, world_model__kl__scale=1)]
    found = compare(runs)
    assert found.agents == ("atari-small", "atari-small, gaussian-latents", "atari-small, world_model.kl.scale=1")
    assert [(name, len(entries)) for name, entries in found.environments.items()] == [(BOXING, 3), (PONG, 1)]


def test_labels_leave_out_what_all_agents_share(make: Any) -> None:
    """As in an ablation: settings that are not the preset's, for all agents but those whose variant says otherwise."""
    common = {"behavior__horizon": 9, "behavior__return_lambda": 0.5, "replay__batch_size": 8}
    balanced = {**common, "world_model__kl__balance": 0.7}
    runs = [
        make(1, **balanced),
        make(2, variant="gaussian-latents", **balanced),
        make(3, variant="no-kl-balancing", **common),
        make(4, variant="no-gru-norm", **balanced, train_every=7),
    ]
    found = compare(runs)
    assert found.agents == (
        "atari-small",
        "atari-small, gaussian-latents",
        "atari-small, no-kl-balancing",
        "atari-small, no-gru-norm, training.train_every=7",
    )
    wanted = {"behavior.horizon=9", "behavior.return_lambda=0.5", "replay.batch_size=8", "world_model.kl.balance=0.7"}
    assert set(found.shared) == wanted
    assert set(compare(runs[:1]).shared) == wanted and compare(runs[:1]).agents == ("atari-small",)


def test_a_setting_that_one_agent_does_not_have_is_not_shared(make: Any) -> None:
    found = compare([make(1, behavior__horizon=9), make(2, variant="gaussian-latents")])
    assert found.shared == ()
    assert found.agents == ("atari-small, behavior.horizon=9", "atari-small, gaussian-latents")


def test_a_matrix_has_as_many_seeds_everywhere(make: Any) -> None:
    runs = [make(10 + seed, seed=seed) for seed in range(3)] + [make(20 + seed, env=PONG, seed=seed) for seed in (1, 2)]
    found = suite_scores(compare(runs), "atari")
    assert found is not None
    assert found.environments == (BOXING, PONG)
    assert found.scores["atari-small"].tolist() == [[10, 21], [11, 22]]
    assert found.unused == {"atari-small": ((BOXING, 2),)}
    assert suite_scores(compare(runs), "dmc") is None


def test_a_matrix_has_the_environments_that_all_agents_have(make: Any) -> None:
    runs = [make(1), make(2, env=PONG), make(3, variant="gaussian-latents"), make(9, env="CartPole-v1")]
    found = suite_scores(compare(runs), "atari")
    assert found is not None
    assert (found.environments, found.without) == ((BOXING,), (PONG,))
    assert {agent: scores.tolist() for agent, scores in found.scores.items()} == {
        "atari-small": [[1]],
        "atari-small, gaussian-latents": [[3]],
    }


def test_no_matrix_without_common_environments(make: Any) -> None:
    assert suite_scores(compare([make(1), make(2, env=PONG, variant="gaussian-latents")]), "atari") is None
    assert suite_scores(compare([make(1, env="CartPole-v1")]), "atari") is None


def test_a_silent_run_has_no_score(make: Any) -> None:
    entry = only(compare([make(1, seed=0), make(seed=1, evaluations=None)]))
    assert (list(entry.scores), len(entry.counted)) == ([0], 2)
