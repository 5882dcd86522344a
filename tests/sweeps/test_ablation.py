"""The table of ablations from run folders whose scores are known."""

import json
from pathlib import Path

import pytest

from reverie.analysis.ablations import Counts
from reverie.cli.main import main
from reverie.config import ABLATIONS, to_toml
from reverie.errors import ConfigError, RunError
from reverie.sweeps.ablation import ablated, ablation_plan, compare
from reverie.sweeps.plan import SUITES, Plan, Task, read_plan
from reverie.sweeps.planned_runs import PlannedRun, planned_runs
from tests.helpers.sweeps import plan, replace_settings, spec_of


def write_run(run: PlannedRun, folder: Path, score: float, random: float = 1.0, until: float = 1.0) -> None:
    """A run with random episodes first, and evaluations that end at a score."""
    path = folder / run.path
    path.mkdir(parents=True)
    (path / "config.toml").write_text(to_toml(run.config))
    steps = int(run.config.training.steps * until)
    rows = [
        {"step": 10, "frames": 10, "time": 1, "updates": 0, "episode/return": random},
        {"step": 20, "frames": 20, "time": 2, "updates": 0, "episode/return": random + 2},
        {"step": 30, "frames": 30, "time": 3, "updates": 1, "episode/return": 50.0},
        {"step": steps - 50, "frames": steps - 50, "time": 4, "updates": 2, "eval/return": 77.0},
        {"step": steps - 5, "frames": steps - 5, "time": 5, "updates": 2, "eval/return": score - 1},
        {"step": steps, "frames": steps, "time": 6, "updates": 3, "eval/return": score + 1},
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_ablation_plan_has_all_ablations() -> None:
    found = ablated(ablation_plan(["A-v0", "B-v0"], "debug"), 2, {"training.steps": 500})
    assert found.variants == ("full", *ABLATIONS)
    assert (found.seeds, [task.env for task in found.tasks]) == ((0, 1), ["A-v0", "B-v0"])
    grid = planned_runs(found, spec_of)
    assert len(grid) == 2 * 8 * 2
    assert not [run for run in grid if run.duplicate_of]
    full, reinforce = grid[0], next(run for run in grid if run.variant == "reinforce-only")
    assert full.config.behavior.actor.gradient == "both"
    assert full.config.behavior.actor.reinforce_weight == 0.9
    assert reinforce.config.behavior.actor.reinforce_weight is None


@pytest.mark.parametrize("path", SUITES.values(), ids=lambda path: path.stem)
def test_ablated_suite_has_the_runs_of_its_sweep(path: Path) -> None:
    suite = read_plan(path)
    swept, found = (
        [(run.name, run.id) for run in planned_runs(one, spec_of)] for one in (suite, ablated(suite, None, {}))
    )
    assert found == swept


def test_ablated_suite_keeps_its_settings() -> None:
    suite = Plan("s", (Task("A-v0", "debug"),), ("full",), (4,), {"behavior.return_lambda": 0.5}, workers=3)
    found = ablated(suite, None, {"training.steps": 700})
    assert (found.seeds, found.workers) == ((4,), 3)
    assert found.settings == {"behavior.return_lambda": 0.5, "training.steps": 700}


@pytest.mark.parametrize(
    ("given", "wanted"), [(("full", "no-gru-norm"), ("full", "no-gru-norm")), (("full",), ("full", *ABLATIONS))]
)
def test_ablated_suite_with_other_agents_keeps_them(given: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    assert ablated(Plan("s", (Task("A-v0", "debug"),), given, (0,), {}), None, {}).variants == wanted


def test_ablated_plan_that_varies_settings_is_refused() -> None:
    with pytest.raises(ConfigError, match="vary: ablations of one agent are compared"):
        ablated(Plan("p", (Task("A-v0", "debug"),), vary={"replay.batch_size": (3, 4)}), None, {})


def test_ablated_suite_without_the_full_agent_is_refused() -> None:
    suite = Plan("s", (Task("A-v0", "debug"),), ("no-gru-norm", "size-13m"), (0,), {}, source="plan.toml")
    with pytest.raises(ConfigError, match=r"In plan\.toml: variants: 'full' is missing"):
        ablated(suite, None, {})


def test_compare_counts_better_worse_and_tied(tmp_path: Path) -> None:
    grid = planned_runs(
        plan(envs=("A-v0", "B-v0"), variants=("full", "no-gru-norm", "no-kl-balancing"), seeds=2), spec_of
    )
    scores = {("A-v0", "full"): 10, ("A-v0", "no-gru-norm"): 20, ("A-v0", "no-kl-balancing"): 10}
    scores |= {("B-v0", "full"): 10, ("B-v0", "no-gru-norm"): 5, ("B-v0", "no-kl-balancing"): 10}
    for run in grid:
        write_run(run, tmp_path, scores[run.env, run.variant] + 0.01 * run.seed)
    (norm, balancing), facts = compare(grid, tmp_path)
    assert (norm.ablation, norm.counts("supported")) == ("no-gru-norm", Counts(1, 1, 0))
    assert (balancing.ablation, balancing.counts("paper")) == ("no-kl-balancing", Counts(0, 0, 2))
    assert norm.compared["A-v0"].ablation == (20, 20.01)  # the mean of the evaluations in the last tenth
    assert facts["seeds"] == 2


def test_compare_names_what_is_missing(tmp_path: Path) -> None:
    base = replace_settings(plan(variants=("full", "no-gru-norm", "gaussian-latents"), seeds=2), {})
    grid = planned_runs(base, spec_of)
    write_run(grid[0], tmp_path, 10)
    write_run(grid[1], tmp_path, 10, until=0.5)
    (tmp_path / grid[1].path / "checkpoints" / "step-000000100").mkdir(parents=True)
    write_run(grid[2], tmp_path, 10)
    other = planned_runs(replace_settings(base, {"replay.batch_size": 9}), spec_of)
    write_run(other[5], tmp_path, 10)
    (norm, gaussian), _ = compare(grid, tmp_path)
    assert norm.counts("paper") == gaussian.counts("supported") == Counts(0, 0, 0)
    assert norm.missing["A-v0"] == (
        "A-v0 full seed 1 was not run; A-v0 no-gru-norm seed 0 is at step 100 of 200; "
        "A-v0 no-gru-norm seed 1 was not run"
    )
    assert (
        "A-v0 gaussian-latents seed 1: A-v0/gaussian-latents/seed-1 was run with other settings"
        in gaussian.missing["A-v0"]
    )


def test_compare_names_a_duplicate(tmp_path: Path) -> None:
    grid = planned_runs(plan(variants=("full", "reinforce-only"), seeds=1), spec_of)
    write_run(grid[0], tmp_path, 10)
    (row,), _ = compare(grid, tmp_path)
    assert row.missing == {"A-v0": "it is the same agent as A-v0 full seed 0"}


def test_compare_without_full_or_ablation_is_refused(tmp_path: Path) -> None:
    for variants in (("full",), ("no-gru-norm", "gaussian-latents")):
        with pytest.raises(RunError, match="needs the variant 'full' and another one"):
            compare(planned_runs(plan(variants=variants), spec_of), tmp_path)


def test_ablate_names_duplicates_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """CartPole has no images, and the preset's actor learns by Reinforce alone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.toml").write_text('environments = ["CartPole-v1"]\npreset = "debug"\nseeds = [0, 1]\n')
    assert main(["ablate", "--suite", "plan.toml", "--dry-run"]) == 0
    (said,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Not run")]
    assert said == (
        "Not run, since it would be the same agent as another run: CartPole-v1 no-image-gradients, CartPole-v1 "
        "reinforce-only."
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--report", "nothere"], "There is no plan 'nothere'. Give a plan (TOML), the folder of a sweep"),
        (["--report", ".", "MinAtar/Breakout-v1"], "leave the others out"),
        (["MinAtar/Breakout-v1", "--suite", "minatar-quick"], "not both: a suite has its own"),
        (["--suite", "minatar-quick", "--preset", "minatar"], "a suite has its own presets"),
        (["MinAtar/Breakout-v1", "--seeds", "0"], "at least 1"),
        (["--suite", "minatar-quik"], "There is no plan 'minatar-quik'. Give a plan"),
    ],
)
def test_ablate_mistake_is_named(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", *words]) != 0
    assert sentence in " ".join(capsys.readouterr().err.split())
