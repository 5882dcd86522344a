"""`reverie diagnose` as a user types it."""

import json
from pathlib import Path

import gymnasium
import pytest

from reverie.cli import main as cli
from tests.helpers.environments import Catch

SHORT = "--batches 1 --context 4 --horizon 12"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, from the command line."""
    gymnasium.register("CliDiagnoseCatch-v0", entry_point=Catch, kwargs={"balls": 6})
    folder = tmp_path_factory.mktemp("cli") / "run"
    line = "train CliDiagnoseCatch-v0 --preset debug --steps 140 --prefill 100 --train-every 20 --log-every 20 --logdir"
    assert cli.main([*line.split(), str(folder)]) == 0
    return folder


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_page_and_a_picture(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diagnose", str(trained), *SHORT.split()]) == 0
    out = capsys.readouterr().out
    assert out.index("Findings") < out.index("too-early") < out.index("\nlatents")
    assert max(len(line.rstrip()) for line in out.splitlines() if "Wrote" not in line) <= 80
    assert out.rstrip().endswith("Wrote diagnose.png")
    assert Path("diagnose.png").read_bytes()[1:4] == b"PNG"


def test_json(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"diagnose {trained}/checkpoints/best/ {SHORT} --seed 2 --out there/page.svg --json"
    best = (trained / "checkpoints" / "best").exists()
    assert cli.main((line if best else line.replace("/checkpoints/best/", "")).split()) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["environment"] == "CliDiagnoseCatch-v0" and found["steps_seen"] == 16 * 16
    assert found["picture"] == "there/page.svg" and Path(found["picture"]).is_file()
    assert {"rule", "section", "severity", "seen", "means", "advice"} == set(found["findings"][0])


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("--horizon 0", 2, "--horizon is 0, but at least 1 is needed."),
        ("--batches -1", 2, "--batches is -1"),
        ("--out page.jpg", 1, "its ending must be one of"),
        ("--horizon 5000", 1, "are needed. Let the run continue"),
        ("--horizn 5", 2, "--horizon"),
        ("--holdout {run}", 1, "is the run itself, which has seen its own replay; give another run."),
    ],
)
def test_mistakes(arguments: str, status: int, message: str, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diagnose", str(trained), *arguments.format(run=trained).split()]) == status
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
    assert not list(Path().iterdir())


def test_there_is_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diagnose", "nowhere"]) == 1
    assert "There is nothing at nowhere" in capsys.readouterr().err
