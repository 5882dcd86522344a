"""`reverie verify` names what is damaged, and nothing else; damaged runs are refused or say what is lost."""

import json
import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import reverie
from reverie import Callback, Stop
from reverie.cli.main import main
from reverie.errors import ReplayError, RunError
from reverie.runs.digest import digest
from reverie.runs.run_folder import RunFolder
from reverie.runs.verify import repair, verify
from reverie.training.counters import Counters
from tests.helpers import environments

ROOT = Path(__file__).parents[2]


def trained(folder: Path, resume: bool = False, steps: int = 96) -> None:
    settings: dict[str, Any] = {
        **{"env.parallel": False, "env.num_envs": 2, "threads": 1, "steps": steps, "prefill": 30, "pretrain": 2},
        **{"train_every": 8, "eval_every": 30, "eval_episodes": 1, "log_every": 12, "video_every": 50},
        **{"checkpoint_every": 26, "keep_checkpoints": 2},
    }
    reverie.train(environments.Catch, "debug", logdir=folder, resume=resume, **settings)


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify") / "run"
    trained(folder)
    return folder


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / "run", symlinks=True))


def damaged(run: Path) -> dict[str, str]:
    return {finding.path: finding.what for finding in verify(run).damage}


def newest(run: Path) -> Path:
    return sorted((run / "checkpoints").glob("step-*"))[-1]


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 4
    path.write_bytes(data)


def test_verify_undamaged_run_finds_and_changes_nothing(trained_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in trained_run.rglob("*")}
    assert main(["verify", str(trained_run)]) == 0
    text = capsys.readouterr().out
    for part in ("checkpoints: step-", "config.toml", "about.json", "metrics.jsonl", "replay.db", "videos: "):
        assert f"valid      {part}" in text, part
    assert "damaged" not in text
    assert before == {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in trained_run.rglob("*")}


def test_what_is_damaged_is_named_with_what_to_do(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = newest(run).name
    flip(newest(run) / "tensors.safetensors", -1)
    assert main(["verify", str(run)]) == 1
    shown = capsys.readouterr()
    text = " ".join(shown.out.split())
    assert f"damaged checkpoints/{name} is damaged: tensors.safetensors does not have its checksum." in text
    assert f"{run} --repair` puts it aside, and --resume continues from step-" in text
    assert "1 thing is not as stored" in " ".join(shown.err.split())
    assert main(["verify", str(run), "--json"]) == 1
    assert [each["path"] for each in json.loads(capsys.readouterr().out)["damage"]] == [f"checkpoints/{name}"]


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("config.toml", lambda text: text.replace("seed = 0", "seed = 5"), "training.seed 5 (0 there)"),
        ("config.toml", lambda text: text + " ", "was edited or is damaged"),
        ("config.toml", lambda text: text[:-9], "cannot be used"),
        ("about.json", lambda text: text.replace('"step": 0', '"step": 1'), "does not have its checksum"),
        ("metrics.jsonl", lambda text: text.replace('"time": ', '"time": 1', 1), "is damaged"),
        ("metrics.jsonl", lambda text: text.split("\n", 1)[1], "rows, and had"),
        ("metrics.jsonl", lambda text: text + "{\n{\n", "other lines than rows of metrics"),
        ("metrics.jsonl", lambda text: text + "\x07nonsense", "other lines than rows of metrics"),
    ],
)
def test_files_of_text(run: Path, file: str, change: Any, words: str) -> None:
    text = (run / file).read_text()
    (run / file).write_text(change(text))
    assert (run / file).read_text() != text
    found = damaged(run)
    assert list(found) == [file] and words in found[file]


def test_a_row_that_was_being_written_is_no_damage(run: Path) -> None:
    row = (run / "metrics.jsonl").read_text().splitlines()[-1]
    for cut in (1, 5, 9, 40):
        with (run / "metrics.jsonl").open("a") as file:
            file.write(row[:cut])
        found = verify(run)
        assert not found.damage and any("rows after the newest checkpoint (1)" in text for text in found.unchecked)
        os.truncate(run / "metrics.jsonl", (run / "metrics.jsonl").stat().st_size - cut)


def damage_step(run: Path, number: int) -> int:
    """Change a bit of a stored step; return its episode."""
    with closing(sqlite3.connect(run / "replay.db")) as database, database:
        step, data = database.execute("SELECT id, data FROM steps LIMIT 1 OFFSET ?", (number,)).fetchone()
        changed = bytes([data[0] ^ 1]) + data[1:]
        database.execute("UPDATE steps SET data = ? WHERE id = ?", (changed, step))
    return int(step) >> 24


def test_verify_of_a_damaged_step_names_its_episode(run: Path) -> None:
    episode = damage_step(run, 0)
    words = f"of episode {episode} is not what was stored"
    [what] = damaged(run).values()
    assert what == f"is damaged: step 0 {words}"
    with pytest.raises(ReplayError, match=f"step 0 of episode {episode} is not what was stored.*verify {run}`"):
        trained(run, resume=True, steps=200)
    with pytest.raises(ReplayError, match=f"step 0 of episode {episode} is not"):
        digest(run)


def test_a_damaged_run_is_repaired_and_goes_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A step in the replay and the newest checkpoint are damaged; what is left is said, and enough to finish."""
    damage_step(run, 0)
    name = newest(run).name
    flip(newest(run) / "tensors.safetensors", -1)
    assert main(["verify", str(run), "--repair"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"{name} was put aside as damaged-{name}. repaired The run continues from step-" in text
    assert "of the replay left out permanently" in text
    trained(run, resume=True, steps=150)
    assert not damaged(run) and newest(run).name >= "step-000000150"
    assert digest(run)


def test_without_a_valid_checkpoint_nothing_is_repaired(run: Path) -> None:
    for path in (run / "checkpoints").glob("step-*"):
        flip(path / "tensors.safetensors", -1)
    with pytest.raises(RunError, match="cannot be repaired: there is no valid checkpoint"):
        repair(run)
    assert {f"checkpoints/{path.name}" for path in (run / "checkpoints").glob("step-*")} <= damaged(run).keys()


def test_a_run_that_is_training_is_not_repaired(run: Path) -> None:
    with RunFolder.hold(run):
        with pytest.raises(RunError, match="is in use by process"):
            repair(run)
        assert "a process is training here" in verify(run).unchecked[0]


def test_missing_parts(run: Path) -> None:
    video = next((run / "videos").glob("*.gif"))
    video.unlink()
    assert damaged(run) == {f"videos/{video.name}": "is missing"}
    (run / "replay.db").unlink()
    assert damaged(run)["replay.db"] == "is missing"


def test_a_run_that_goes_back_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without its newest checkpoints a run goes on from the one before: what came then is computed again."""
    step = int(newest(run).name.split("-")[1])
    for path in (run / "checkpoints").glob(f"step-{step:09d}*"):
        shutil.rmtree(path)
    next((run / "videos").glob("*.png")).write_bytes(b"")
    trained(run, resume=True)
    text = " ".join(capsys.readouterr().out.split())
    assert re.search(r"Continuing from step \d+ of 96. \d+ later steps are collected again.", text)


def test_changed_metrics_and_videos_are_told_when_the_run_goes_on(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = run / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"time": ', '"time": 1', 1))
    next((run / "videos").glob("*.png")).write_bytes(b"")
    trained(run, resume=True, steps=150)
    text = " ".join(capsys.readouterr().out.split())
    assert "metrics.jsonl was changed since the checkpoint" in text
    assert ".png is corrupted or gone; training continues" in text
    assert not damaged(run).keys() - {"videos"}


def test_verify_first_checkpoint_without_rows_finds_nothing(tmp_path: Path) -> None:
    class StopAtOnce(Callback):
        def on_step(self, counters: Counters, transitions: object) -> Stop:
            return Stop("The first checkpoint is enough.")

    reverie.train("CartPole-v1", "debug", logdir=tmp_path, callbacks=[StopAtOnce()], quiet=True, log_every=1000)
    for path in sorted((tmp_path / "checkpoints").glob("step-*"))[1:]:
        shutil.rmtree(path)
    (tmp_path / "metrics.jsonl").write_bytes(b"")
    assert damaged(tmp_path) == {}


@pytest.mark.parametrize(("copied", "replaced"), [("trackers.json", "about.json"), ("about.json", "trackers.json")])
def test_verify_file_of_another_kind_is_found_despite_its_checksum(run: Path, copied: str, replaced: str) -> None:
    shutil.copyfile(run / copied, run / replaced)
    assert damaged(run)[replaced].startswith("is another file")


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not the folder of a run"):
        verify(tmp_path)
