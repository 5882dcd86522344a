"""Cells: their order, configuration, command and identity."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reverie import training
from reverie.cli import main as cli
from reverie.cli import train
from reverie.config import Config, preset, with_variant
from reverie.errors import ConfigError, EnvError, RunError
from reverie.specs import ActionSpec, EnvSpec
from reverie.sweeps.plan import Plan, Task
from reverie.sweeps.planned_runs import PlannedRun, folder_name, planned_runs
from tests.helpers.sweeps import plan, replace_settings, spec_of


def test_planned_runs_order_is_seed_by_seed() -> None:
    found = planned_runs(plan(envs=("A-v0", "B-v0"), variants=("full", "no-gru-norm"), seeds=2), spec_of)
    assert [run.name for run in found] == [
        "A-v0 full seed 0",
        "A-v0 no-gru-norm seed 0",
        "B-v0 full seed 0",
        "B-v0 no-gru-norm seed 0",
        "A-v0 full seed 1",
        "A-v0 no-gru-norm seed 1",
        "B-v0 full seed 1",
        "B-v0 no-gru-norm seed 1",
    ]
    assert len({run.id for run in found}) == 8
    assert str(found[1].path) == "A-v0/no-gru-norm/seed-0"


def test_planned_runs_have_each_combination_of_varied_settings() -> None:
    vary = {
        "world_model.optimizer.lr": (1e-4, 3e-4),
        "behavior.actor.optimizer.lr": (1e-3,),
        "replay.batch_size": (3, 4),
    }
    found = planned_runs(replace(plan(variants=("full",), seeds=1), vary=vary), spec_of)
    names = [f"world_model.optimizer.lr={lr},actor.optimizer.lr=0.001" for lr in ("0.0001", "0.0003")]
    assert [run.varied for run in found] == [f"{name},batch_size={size}" for name in names for size in (3, 4)]
    assert [run.config.replay.batch_size for run in found] == [3, 4, 3, 4]
    assert [run.config.world_model.optimizer.lr for run in found] == [1e-4, 1e-4, 3e-4, 3e-4]
    assert found[0].name == f"A-v0 full {found[0].varied} seed 0"
    assert str(found[0].path) == f"A-v0/full-{found[0].varied}/seed-0"
    assert len({run.id for run in found}) == 4


def test_planned_runs_varied_settings_that_a_variant_determines_are_duplicates() -> None:
    vary = {"behavior.actor.gradient": ("both", "dynamics")}
    found = planned_runs(replace(plan(variants=("full", "reinforce-only"), seeds=1), vary=vary), spec_of)
    assert [bool(run.duplicate_of) for run in found] == [False, False, False, True]


@pytest.mark.parametrize(
    ("vary", "words"),
    [({"training.seed": (1, 2)}, "training.seed cannot be among"), ({"replay.batch_size": (0, 1)}, "batch_size is 0")],
)
def test_planned_runs_wrong_varied_setting_is_named(vary: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        planned_runs(replace(plan(variants=("full",), seeds=1), vary=vary), spec_of)


def test_planned_runs_config_is_preset_variant_plan_environment() -> None:
    """Preset, then the variant, then settings, then those of the environment."""
    settings = {"training.steps": 500, "training.prefill": 100, "replay.batch_size": 3}
    tasks = (Task("A-v0", "debug", {"replay.batch_size": 5}),)
    (found,) = planned_runs(Plan("p", tasks, ("no-gru-norm",), (7,), settings, threads=2), spec_of)
    expected = with_variant(preset("debug"), "no-gru-norm").for_env("A-v0")
    assert found.config == expected.override(steps=500, prefill=100, seed=7, threads=2, **{"replay.batch_size": 5})


def test_planned_runs_variant_changes_the_agent_of_the_plan() -> None:
    """What it determines keeps its value, whatever the plan's settings say."""
    base = replace_settings(plan(variants=("full", "reinforce-only"), seeds=1), {"behavior.actor.gradient": "both"})
    full, ablation = planned_runs(base, spec_of)
    assert (full.config.behavior.actor.gradient, ablation.config.behavior.actor.gradient) == ("both", "reinforce")
    assert not ablation.duplicate_of


@pytest.mark.parametrize("variant", ["full", "reinforce-only", "gaussian-latents+no-gru-norm"])
def test_arguments_train_just_this_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
    calls: list[dict[str, Any]] = []

    def train_config(config: Config, logdir: Path, resume: bool, origin: Any, **_: Any) -> None:
        calls.append({"config": config, "logdir": logdir, "resume": resume, "variant": origin.variant})

    monkeypatch.setattr(training, "train_config", train_config)
    monkeypatch.setattr(train, "next_commands", lambda agent, run: [])
    settings = {
        "behavior.actor.gradient": "both",
        "behavior.actor.reinforce_weight": 0.9,
        "behavior.actor.dynamics_weight": "linear(0.1,0,10e6 frames)",
        "behavior.return_lambda": 0.9,
        "env.parallel": False,
        "world_model.encoder.keys": [],
        "world_model.optimizer.lr": 3e-7,
        "training.prefill": "3e2",
    }
    base = Plan("p", (Task("CartPole-v1", "debug"),), (variant,), (3,), settings, threads=1)
    (run,) = planned_runs(base, spec_of)
    assert cli.main(run.arguments(tmp_path)) == 0
    assert calls == [{"config": run.config, "logdir": tmp_path / run.path, "resume": True, "variant": variant}]


def test_identity_leaves_out_settings_without_effect() -> None:
    def ids(spec: EnvSpec, **more: Any) -> list[str]:
        return [
            run.id for run in planned_runs(plan(variants=("full", "reinforce-only"), seeds=1, **more), lambda _: spec)
        ]

    discrete, continuous = (EnvSpec({}, ActionSpec(kind, (2,))) for kind in ("discrete", "continuous"))
    assert len(set(ids(discrete))) == 1
    assert len(set(ids(continuous))) == 2
    assert ids(discrete) == ids(discrete, threads=3)


def test_planned_runs_that_settings_make_equal_are_duplicates() -> None:
    """The split objective does not read what the variant sets."""
    split = replace_settings(plan(variants=("full", "no-kl-balancing"), seeds=1), {"world_model.kl.objective": "split"})
    assert [run.duplicate_of for run in planned_runs(split, spec_of)] == ["", "A-v0 full seed 0"]


def test_planned_runs_of_an_idle_variant_without_its_equal_are_refused() -> None:
    for variants in (("reinforce-only",), ("full", "no-gru-norm+reinforce-only")):
        with pytest.raises(ConfigError, match=r"\(A-v0\): The variant reinforce-only changes nothing here: "):
            planned_runs(plan(variants=variants), spec_of)
    with_equal = planned_runs(plan(variants=("no-gru-norm", "no-gru-norm+reinforce-only"), seeds=1), spec_of)
    assert [run.duplicate_of for run in with_equal] == ["", "A-v0 no-gru-norm seed 0"]


def test_check_settings_accepts_execution_and_more_steps() -> None:
    config = preset("debug")

    def check(planned: Config, saved: Config) -> None:
        PlannedRun("A-v0", "full", 0, "debug", planned, "id").check_settings(saved)

    fp32, auto = (config.override(precision=precision) for precision in ("fp32", "auto"))
    check(config.override(threads=4, keep_checkpoints=9), config)
    check(config, config.override(steps=900))
    check(auto, fp32)
    for planned, saved, words in (
        (config.override(steps=900), config, "training.steps was 1000 and is now 900"),
        (fp32, auto, "training.precision was auto and is now fp32"),
        (config.override(seed=2), config, "training.seed was 0 and is now 2"),
    ):
        with pytest.raises(RunError, match=words):
            check(planned, saved)


@pytest.mark.parametrize(
    ("task", "settings", "words"),
    [
        (Task("A-v0", "debugg"), {}, "environments[1] (A-v0): There is no preset 'debugg'; did you mean debug?"),
        (Task("A-v0", "debug"), {"replay.batch_size": "many"}, "(A-v0): variant full: replay.batch_size is 'many'"),
        (Task("A-v0", "debug"), {"training.steps": 20}, "(A-v0): variant full: training.steps is 20"),
        (Task("A-v0", "debug"), {"training.seed": 3}, "training.seed cannot be among the settings"),
        (Task("gone-v0", "debug"), {}, "environments[1] (gone-v0): It is gone."),
        (Task("gone-v0"), {}, "environments[1] (gone-v0): It is gone."),
    ],
)
def test_planned_runs_mistake_is_named_with_file_and_key(task: Task, settings: dict[str, Any], words: str) -> None:
    def spec(config: Any) -> EnvSpec:
        if config.name == "gone-v0":
            raise EnvError("It is gone.")
        return spec_of(config)

    with pytest.raises(ConfigError) as error:
        planned_runs(Plan("p", (task,), ("full",), (0,), settings, source="some.toml"), spec)
    assert str(error.value).startswith("In some.toml: ")
    assert words in str(error.value)


def test_folder_name_replaces_special_characters() -> None:
    assert folder_name("ALE/Pong-v5") == "ALE-Pong-v5"
    with pytest.raises(ConfigError, match="two names differ in special characters only"):
        planned_runs(plan(envs=("ALE/Pong-v5", "ALE:Pong-v5")), spec_of)
