"""Plans: what is read from TOML, and every mistake in a sentence that names file and key."""

import json
from pathlib import Path

import pytest

from reverie.config import ABLATIONS
from reverie.errors import ConfigError
from reverie.sweeps.plan import SUITES, Plan, Task, find_plan, parse_plan, read_plan
from reverie.sweeps.planned_runs import planned_runs
from tests.helpers.sweeps import spec_of

GOOD = """
name = "example"
preset = "minatar"
variants = ["full", "no-gru-norm+no-kl-balancing"]
seeds = [0, 5]
workers = 3
threads = 1
keep_replay = false
environments = [
    "MinAtar/Breakout-v1",
    {name = "ALE/Pong-v5", preset = "atari-small", settings = {"replay.batch-size" = 8}},
]
[settings]
steps = 60_000
world_model.kl.scale = 0.2
[vary]
behavior.actor.optimizer.lr = [1e-4, "linear(1e-3,1e-4,5e3)"]
"replay.batch-length" = [20, 30]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "plan.toml"
    path.write_text(text)
    return path


def test_read_plan_of_every_key(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert read_plan(path) == Plan(
        name="example",
        tasks=(
            Task("MinAtar/Breakout-v1", "minatar", {}),
            Task("ALE/Pong-v5", "atari-small", {"replay.batch_size": 8}),
        ),
        variants=("full", "no-gru-norm+no-kl-balancing"),
        seeds=(0, 5),
        settings={"training.steps": 60_000, "world_model.kl.scale": 0.2},
        vary={
            "behavior.actor.optimizer.lr": (1e-4, "linear(1e-3,1e-4,5e3)"),
            "replay.batch_length": (20, 30),
        },
        workers=3,
        threads=1,
        keep_replay=False,
        source=str(path),
    )


def test_read_plan_defaults(tmp_path: Path) -> None:
    found = read_plan(write(tmp_path, 'environments = ["CartPole-v1"]'))
    assert found == Plan("plan", (Task("CartPole-v1"),), ("full",), (0,), source=found.source)


def test_to_json_gives_the_same_plan(tmp_path: Path) -> None:
    found = read_plan(write(tmp_path, GOOD))
    again = parse_plan(json.loads(json.dumps(found.to_json())), found.source, "other")
    assert again == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("environments = [", "is not valid TOML"),
        ('environments = ["A"]\nvary = 3', "vary is 3, but it must be a table"),
        ('environments = ["A"]\nvary = {replay.batch_size = 3}', "vary: replay.batch_size is 3, but it must be a list"),
        (
            'environments = ["A"]\nvary = {replay.batch_size = [3, 3]}',
            "it must be a list of values, none of them twice",
        ),
        ('environments = ["A"]\nvary = {replay.batch_size = []}', "it must be a list of values, none of them twice"),
        ('environments = ["A"]\nvary = {replay.batch_sise = [3]}', "plan.toml: vary: "),
        (
            'environments = ["A"]\nvary = {replay.batch_size = [3]}\nsettings = {replay.batch_size = 4}',
            "vary: replay.batch_size is among the settings, too",
        ),
        ("", "plan.toml: environments is [], but it must name something"),
        ("environments = 3", "plan.toml: environments is 3, but it must be a list"),
        ("environments = []", "plan.toml: environments is [], but it must name something"),
        ("environments = [3]", "plan.toml: environments[1] is 3, but it must be a table"),
        ('environments = ["A", "A"]', "environments is ['A', 'A'], but it must name something, and nothing twice"),
        ('environments = [{preset = "debug"}]', "environments[1].name is None, but it must be text"),
        ('environments = [{name = "A", presets = "debug"}]', "environments[1].presets is an unknown key"),
        ('environments = [{name = "A", settings = {stepps = 3}}]', "environments[1].settings: There is no setting"),
        ('enviroments = ["A"]', "plan.toml: enviroments is an unknown key; the keys are"),
        ('environments = ["A"]\nvariants = ["fulll"]', "variants: There is no variant 'fulll'; did you mean full?"),
        ('environments = ["A"]\nvariants = ["full", "full"]', "variants is ['full', 'full'], but"),
        ('environments = ["A"]\nvariants = 3', "plan.toml: variants is 3, but it must be a list"),
        ('environments = ["A"]\nseeds = [1, 1]', "plan.toml: seeds is [1, 1], but"),
        ('environments = ["A"]\nseeds = [-1]', "plan.toml: seeds is -1, but it must be at least 0"),
        ('environments = ["A"]\nseeds = [true]', "plan.toml: seeds is True, but it must be a whole number"),
        ('environments = ["A"]\nworkers = 0', "plan.toml: workers is 0, but it must be at least 1"),
        ('environments = ["A"]\nkeep_replay = "maybe"', "keep_replay is 'maybe', but it must be true or false"),
        ('environments = ["A"]\nname = 3', "plan.toml: name is 3, but it must be text"),
        ('environments = ["A"]\n[settings]\nworld_model.kl.scal = 1', "settings: There is no setting"),
        ('environments = ["A"]\n[settings]\n"world_model.kl" = 1', "world_model.kl is a group of settings"),
        ('environments = ["A"]\n[settings]\nsteps = 1\ntraining.steps = 2', "training.steps is set twice"),
    ],
)
def test_read_plan_mistake_is_named_with_file_and_key(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_plan(write(tmp_path, text))
    assert words in str(error.value)
    assert str(tmp_path / "plan.toml") in str(error.value)


def test_find_plan_of_file_folder_and_suite(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert find_plan(str(path)) == path
    (tmp_path / "sweep.json").write_text("{}")
    assert find_plan(str(tmp_path)) == tmp_path / "sweep.json"
    assert find_plan("cpu-all") == SUITES["cpu-all"]
    (tmp_path / "empty").mkdir()
    for name in ("cpu-al", str(tmp_path / "empty")):
        with pytest.raises(
            ConfigError, match=rf"There is no plan '{name}'\. Give a plan .*, or one of boxing, cpu-all"
        ):
            find_plan(name)


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"plan": 3}'])
def test_read_plan_of_a_damaged_copy_is_refused(tmp_path: Path, damage: str) -> None:
    (tmp_path / "sweep.json").write_text(damage)
    with pytest.raises(ConfigError, match=r"sweep\.json"):
        read_plan(tmp_path / "sweep.json")


@pytest.mark.parametrize("path", SUITES.values(), ids=lambda path: path.stem)
def test_suites_of_the_package_have_no_duplicates(path: Path) -> None:
    suite = read_plan(path)
    assert suite.name == path.stem
    assert suite.variants[0] == "full" and len(suite.variants) > 1
    assert set(suite.variants[1:]) <= set(ABLATIONS)
    assert path.stem in ("boxing", "minatar-decisive") or suite.variants == ("full", *ABLATIONS)
    found = planned_runs(suite, spec_of)
    assert len(found) == len(suite.tasks) * len(suite.variants) * len(suite.seeds)
    assert not [run.name for run in found if run.duplicate_of]
