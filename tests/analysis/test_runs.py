"""Runs from folders and files: what they say, and what is said of those that say nothing."""

from pathlib import Path

import pytest

from reverie.analysis.labels import INCIDENTAL, agent_label, agent_settings
from reverie.analysis.runs import find_runs, read_run
from reverie.config import PATHS, PRESETS, preset
from reverie.errors import ConfigError, RunError
from reverie.runs.run_folder import RunFolder
from tests.helpers.fake_runs import write_rows, write_run

RESULTS = Path(__file__).parents[2] / "results"


def test_a_run(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "a", seed=3, variant="gaussian-latents", evaluations=lambda f: f / 1e6))
    assert (run.environment, run.seed, run.preset, run.variant) == (
        "ALE/Boxing-v5", 3, "atari-small", "gaussian-latents",
    )  # fmt: skip
    assert (run.status, run.frames, run.frames_planned) == ("finished", 1_000_000, 1_000_000)
    assert run.label == "atari-small, gaussian-latents"
    assert run.starts[0]["commit"] == "0123abc"
    assert len(run.curve("eval/return")) == 20
    # 900k, 950k and 1M lie in the last tenth
    assert run.final_score is not None
    assert run.final_score.value == pytest.approx((0.9 + 0.95 + 1.0) / 3)
    assert run.final_score[1:] == ("evaluations", 3)


def test_score_at_fewer_frames(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "a", evaluations=lambda f: f / 1e6))
    score = run.score_at(500_000)
    assert score is not None
    assert (score.value, score.rows) == (pytest.approx((0.45 + 0.5) / 2), 2)
    assert run.score_at(40_000) is None


def test_score_without_evaluations_says_where_it_comes_from(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "a", evaluations=None, training=lambda f: 7.0))
    assert run.final_score == (7.0, "training episodes", 3)
    run = read_run(write_run(tmp_path / "b", evaluations=None, training=None))
    assert run.final_score is None


def test_status(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a", reached=500_000)
    run = read_run(path)
    assert (run.status, run.frames, run.final_score) == ("stopped", 500_000, None)
    with RunFolder.hold(path):
        assert read_run(path).status == "running"
    assert read_run(path).status == "stopped"


def test_looking_leaves_the_lock_free(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a")
    for _ in range(2):
        read_run(path)
        with RunFolder.hold(path):
            pass


def test_paths_that_mean_runs(tmp_path: Path) -> None:
    first = write_run(tmp_path / "sweep" / "boxing" / "seed-0")
    second = write_run(tmp_path / "sweep" / "boxing" / "seed-1", seed=1)
    runs, broken = find_runs([first, tmp_path, first / "metrics.jsonl"])
    assert ([run.path for run in runs], broken) == ([first, second], [])


def test_committed_results() -> None:
    runs, broken = find_runs([RESULTS / "boxing", RESULTS / "classic-control"])
    assert not broken
    assert [(run.environment, run.seed) for run in runs] == [
        ("ALE/Boxing-v5", 0),
        *(("CartPole-v1", seed) for seed in range(3)),
        *(("Pendulum-v1", seed) for seed in range(3)),
    ]
    assert runs[0].label.startswith("atari-small")
    one = read_run(RESULTS / "classic-control" / "CartPole-v1-seed1.metrics.jsonl")
    assert (one.seed, one.starts) == (1, ())


def test_damaged_runs_are_named_and_others_are_read(tmp_path: Path) -> None:
    good = write_run(tmp_path / "good")
    (tmp_path / "no-metrics").mkdir()
    (tmp_path / "no-metrics" / "config.toml").write_text((good / "config.toml").read_text())
    (tmp_path / "no-config").mkdir()
    write_rows(tmp_path / "no-config", [{"step": 1, "frames": 4}])
    broken = write_run(tmp_path / "broken")
    (broken / "metrics.jsonl").write_text('{"step": 1, "frames": 4}\n{"step"\n{"step": 2, "frames": 8}\n')
    other = write_run(tmp_path / "old")
    (other / "config.toml").write_text("gone = 1\n")
    text = write_run(tmp_path / "text")
    (text / "metrics.jsonl").write_text('{"step": 1, "frames": "many"}\n')
    empty = write_run(tmp_path / "unwritten")
    write_rows(empty, [])
    runs, unreadable = find_runs([tmp_path])
    assert [run.path.name for run in runs] == ["good"]
    reasons = {item.path.name: item.reason for item in unreadable}
    assert set(reasons) == {"no-metrics", "no-config", "broken", "old", "text", "unwritten"}
    assert "line 2 is damaged" in reasons["broken"]
    assert "cannot be read" in reasons["no-config"]
    assert "gone" in reasons["old"]
    assert "line 1 is damaged" in reasons["text"]


def test_no_run_is_left(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    (run / "config.toml").write_text("{")
    with pytest.raises(RunError, match="no run that can be read"):
        find_runs([run])
    with pytest.raises(ConfigError):
        read_run(run)
    with pytest.raises(RunError, match="nothing at"):
        find_runs([tmp_path / "absent"])
    (tmp_path / "void").mkdir()
    with pytest.raises(RunError, match="no run in"):
        find_runs([tmp_path / "void"])
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(RunError, match=r"not the metrics\.jsonl"):
        find_runs([tmp_path / "notes.txt"])


def test_find_runs_with_a_wrong_path_names_it_and_reads_the_others(tmp_path: Path) -> None:
    good = write_run(tmp_path / "good")
    runs, unreadable = find_runs([tmp_path / "absent", good])
    assert [run.path for run in runs] == [good]
    assert [item.path for item in unreadable] == [tmp_path / "absent"]
    assert "There is nothing at" in unreadable[0].reason


# Agents


def test_incidental_settings_exist() -> None:
    assert set(PATHS) >= INCIDENTAL


def test_seeds_of_one_agent() -> None:
    config = preset("atari-small").for_env("ALE/Pong-v5")
    same = config.override(seed=4, device="cpu", threads=2, eval_every=7, keep_checkpoints=9, steps=9_000_000)
    assert agent_settings(config) == agent_settings(same) == agent_settings(same.for_env("ALE/Boxing-v5"))
    assert agent_settings(config) != agent_settings(config.override(train_every=8))
    assert agent_settings(config) != agent_settings(config.override(**{"env.sticky_actions": 0.0}))


@pytest.mark.parametrize("name", PRESETS)
def test_labels_of_presets_without_about(name: str) -> None:
    """Those that differ in nothing that matters share the first one's name."""
    label = agent_label(preset(name).for_env("X-v0"))
    assert agent_settings(preset(label)) == agent_settings(preset(name))
    assert agent_label(preset(name), name) == name


def test_labels() -> None:
    config = preset("atari-small").override(**{"world_model.kl.scale": 1})
    assert agent_label(config) == "atari-small, world_model.kl.scale=1"
    gaussian = preset("atari-small").override(**{"world_model.rssm.latents": "gaussian"})
    assert agent_label(gaussian) == "atari-small, gaussian-latents"
    assert agent_label(gaussian, "atari-small", "gaussian-latents") == "atari-small, gaussian-latents"
    assert agent_label(preset("atari"), preset="atari-small").startswith("atari-small, size-22m, training.")
