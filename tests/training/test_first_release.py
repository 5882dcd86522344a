"""A run of the first release, before replays had checksums (tests/fixtures/first-release), is opened and goes on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from reverie.checkpoints import Checkpoints, read_checkpoint
from reverie.cli.main import main
from reverie.replay import ReplayReader
from reverie.specs import EnvSpec
from reverie.training.digest import digest
from reverie.training.metrics import read_metrics
from reverie.training.verify import verify

FIXTURE = Path(__file__).parents[1] / "fixtures" / "first-release"
DIGEST = {  # `reverie digest --parts` of the program that wrote it
    "weights": "33d928e656edc76f001883899d8d02428244b0b134930b8d42aec9414cb3215a",
    "state": "a6837634b493f49e22a60c82f4a6b74bfa3db195aeede66369783f3ce0fd0ed9",
    "replay": "c9ce3c19ba84e78fb72fb5fa6996cf87e0f6be2aa700ceb021f36f058accbc71",
    "metrics": "71b32811b2b4e0cc0c387acc5cf0cedf9946f797ea51f596ac24512526981220",
    "videos": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "run": "dc9b4c3d163847d6355776836b26f70f30c2ee16408d83a56502fe90156f430d",
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURE, tmp_path / "run", symlinks=True))


def test_it_has_the_digest_that_it_had_then() -> None:
    assert digest(FIXTURE) == DIGEST


def test_nothing_of_it_is_taken_for_damaged() -> None:
    found = verify(FIXTURE)
    assert not found.damage and "replay: 313 steps" in " ".join(found.sound)


def test_it_is_scored(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run), "--episodes", "2", "--json", "--seed", "0"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["agent_steps"] == 300


def test_it_goes_on(run: Path) -> None:
    options = ["--logdir", str(run), "--steps", "400", "--resume"]
    assert main(["train", "CartPole-v1", *options]) == 0
    rows, before = read_metrics(run / "metrics.jsonl"), read_metrics(FIXTURE / "metrics.jsonl")
    assert rows[: len(before)] == before and rows[-1]["step"] == 400
    newest = Checkpoints(run / "checkpoints").latest()
    assert newest is not None
    state = read_checkpoint(newest)[1].state
    with ReplayReader(run / "replay", EnvSpec.from_json(state["spec"]).step) as replay:
        assert replay.num_steps > 400
        windows = replay.windows(np.random.default_rng(0), 8, 100)
    assert windows["is_first"][0].all()
    assert json.loads((run / "replay" / "index.json").read_text())["identity"] is None
