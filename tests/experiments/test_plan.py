"""Plans: what is read from TOML, and every mistake in a sentence that names file and key."""

import json
from pathlib import Path

import pytest

from reverie.config import ABLATIONS
from reverie.errors import ConfigError
from reverie.experiments.cells import cells
from reverie.experiments.plan import SUITES, Plan, Task, find_plan, parse_plan, read_plan
from tests.helpers.sweeps import plan, spec_of

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
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "plan.toml"
    path.write_text(text)
    return path


def test_a_plan(tmp_path: Path) -> None:
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
        workers=3,
        threads=1,
        keep_replay=False,
        source=str(path),
    )


def test_defaults(tmp_path: Path) -> None:
    found = read_plan(write(tmp_path, 'environments = ["CartPole-v1"]'))
    assert found == Plan("plan", (Task("CartPole-v1"),), ("full",), (0,), source=found.source)


def test_json_gives_the_same_plan(tmp_path: Path) -> None:
    found = read_plan(write(tmp_path, GOOD))
    again = parse_plan(json.loads(json.dumps(found.to_json())), found.source, "other")
    assert again == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("environments = [", "is not valid TOML"),
        ("", "plan.toml, environments: it is missing, but it must be a list that is not empty"),
        ("environments = []", "plan.toml, environments: it is []"),
        ("environments = [3]", "plan.toml, environments[1]: 3 is not a table"),
        ('environments = ["A", "A"]', "plan.toml, environments: A is there twice"),
        ('environments = [{preset = "debug"}]', "environments[1]: it has no name"),
        (
            'environments = [{name = "A", presets = "debug"}]',
            "environments[1]: there is no key 'presets'; did you mean",
        ),
        ('environments = [{name = "A", settings = {stepps = 3}}]', "environments[1].settings: There is no setting"),
        ('enviroments = ["A"]', "plan.toml: there is no key 'enviroments'; did you mean environments?"),
        ('environments = ["A"]\nvariants = ["fulll"]', "variants: There is no variant 'fulll'; did you mean full?"),
        ('environments = ["A"]\nvariants = ["full", "full"]', "plan.toml, variants: full is there twice"),
        ('environments = ["A"]\nvariants = "full"', "plan.toml, variants: it is 'full', but it must be a list"),
        ('environments = ["A"]\nseeds = [1, 1]', "plan.toml, seeds: 1 is there twice"),
        ('environments = ["A"]\nseeds = [-1]', "plan.toml, seeds: it is -1, but it must be a whole number, 0 at least"),
        ('environments = ["A"]\nseeds = [true]', "plan.toml, seeds: it is True"),
        ('environments = ["A"]\nworkers = 0', "plan.toml, workers: it is 0, but it must be a whole number, 1 at least"),
        (
            'environments = ["A"]\nkeep_replay = "no"',
            "plan.toml, keep_replay: it is 'no', but it must be true or false",
        ),
        ('environments = ["A"]\nname = ""', "plan.toml, name: it is '', but it must be text"),
        ('environments = ["A"]\n[settings]\nworld_model.kl.scal = 1', "settings: There is no setting"),
        ('environments = ["A"]\n[settings]\n"world_model.kl" = 1', "world_model.kl is a group of settings"),
        ('environments = ["A"]\n[settings]\nseed = 1', "training.seed cannot be set here, since seeds say it"),
        ('environments = ["A"]\n[settings]\nsteps = 1\ntraining.steps = 2', "training.steps is set twice"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_plan(write(tmp_path, text))
    assert words in str(error.value)
    assert str(tmp_path / "plan.toml") in str(error.value)


def test_find_plan(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert find_plan(str(path)) == path
    (tmp_path / "sweep.json").write_text("{}")
    assert find_plan(str(tmp_path)) == tmp_path / "sweep.json"
    assert find_plan("laptop") == SUITES / "laptop.toml"
    with pytest.raises(ConfigError, match=r"There is no plan 'laptp'; did you mean laptop\?"):
        find_plan("laptp")
    with pytest.raises(ConfigError, match=r"There is no plan '\?'; give a plan \(TOML\), a sweep's folder, or one of "):
        find_plan("?")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"is not the folder of a sweep: there is no sweep\.json in it"):
        find_plan(str(tmp_path / "empty"))


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"plan": 3}'])
def test_a_damaged_copy(tmp_path: Path, damage: str) -> None:
    (tmp_path / "sweep.json").write_text(damage)
    with pytest.raises(ConfigError, match=r"sweep\.json"):
        read_plan(tmp_path / "sweep.json")


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.toml")), ids=lambda path: path.stem)
def test_suites_of_the_package(path: Path) -> None:
    suite = read_plan(path)
    assert suite.name == path.stem
    assert suite.variants[0] == "full" and len(suite.variants) > 1
    assert set(suite.variants[1:]) <= set(ABLATIONS)
    assert path.stem in ("boxing", "evening") or suite.variants == ("full", *ABLATIONS)
    found = cells(suite, spec_of)
    assert len(found) == len(suite.tasks) * len(suite.variants) * len(suite.seeds)
    assert not [cell.name for cell in found if cell.twin]


def test_twins_are_no_mistake() -> None:
    assert [cell.twin for cell in cells(plan(variants=("full", "reinforce-only"), seeds=1), spec_of)] == [
        "",
        "A-v0 full seed 0",
    ]
