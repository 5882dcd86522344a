"""LeRobot version 3: the place of actions and frames, and data sets that are refused."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.lerobot_files import CAMERA, GREY, columns, write_lerobot
from tests.helpers.recordings import refused, run, stored

pytest.importorskip("pyarrow", reason="pyarrow is not installed (pip install 'reverie[data]').")
pytest.importorskip("av", reason="av is not installed (pip install 'reverie[data]').")
pq = pytest.importorskip("pyarrow.parquet")
LENGTHS = [4, 7, 3]


def test_import_frames_and_actions_of_each_episode(tmp_path: Path, capsys: Any) -> None:
    write_lerobot(tmp_path / "set", LENGTHS)
    assert run("import", tmp_path / "set", tmp_path / "data") == 0
    assert "its last observation is repeated" in capsys.readouterr().out
    episodes, start = stored(tmp_path / "data"), 0
    assert len(episodes) == 3
    for number, (episode, length) in enumerate(zip(episodes, LENGTHS, strict=True)):
        frames = [*range(start, start + length), start + length - 1]  # the last one is repeated
        assert episode["state"][:, 0].tolist() == frames
        assert episode["images/top"].shape == (length + 1, 64, 64, 3)
        brightness = np.array(frames) % 12 * GREY
        np.testing.assert_allclose(episode["images/top"].mean((1, 2, 3)), brightness, atol=GREY / 4)
        assert (episode["images/wrist"][..., 0] == brightness[:, None, None]).all()
        expected = [[0, 0], *([np.float32(t / 10), -0.5] for t in range(length))]
        assert episode["action"].tolist() == expected
        assert episode["reward"].tolist() == [0] * length + [1]
        assert episode["is_terminal"].tolist() == [False] * length + [number == 0]
        start += length


def test_import_without_rewards_leaves_the_last_action_out(tmp_path: Path, capsys: Any) -> None:
    write_lerobot(tmp_path / "set", LENGTHS, **{"next.reward": None, "next.success": None})
    run("import", tmp_path / "set", tmp_path / "data")
    assert "There are no rewards" in capsys.readouterr().out
    episodes = stored(tmp_path / "data")
    assert [len(episode["action"]) for episode in episodes] == LENGTHS
    assert not any(episode["reward"].any() or episode["is_terminal"].any() for episode in episodes)


def test_import_actions_beyond_one_are_scaled_by_their_range(tmp_path: Path, capsys: Any) -> None:
    actions = [[float(10 * t), 1.0] for t in columns(LENGTHS)["frame_index"]]
    write_lerobot(tmp_path / "set", LENGTHS, action=actions)
    run("import", tmp_path / "set", tmp_path / "data")
    assert "Actions of [0, 60] x [1, 2] are scaled" in capsys.readouterr().out
    assert stored(tmp_path / "data")[1]["action"][:, 0].tolist() == pytest.approx([0, -1, *np.arange(1, 7) / 3 - 1])


def test_import_whole_numbers_are_classes(tmp_path: Path) -> None:
    write_lerobot(tmp_path / "set", LENGTHS, action=[t % 3 for t in columns(LENGTHS)["frame_index"]])
    run("import", tmp_path / "set", tmp_path / "data")
    assert stored(tmp_path / "data")[0]["action"].argmax(1)[1:].tolist() == [0, 1, 2, 0]


def test_export_is_refused(tmp_path: Path, capsys: Any) -> None:
    write_lerobot(tmp_path / "set", LENGTHS)
    run("import", tmp_path / "set", tmp_path / "data")
    assert run("export", tmp_path / "data", tmp_path / "out", "--format", "lerobot") == 1
    assert "only read" in capsys.readouterr().err and not (tmp_path / "out").exists()


DATA, EPISODES = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"
VIDEO = f"videos/{CAMERA}/chunk-000/file-000.mp4"


def _cut(name: str, size: int) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def _info(**changed: Any) -> Callable[[Path], Any]:
    def damage(folder: Path) -> None:
        path = folder / "meta/info.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))

    return damage


def _feature(name: str) -> Callable[[Path], Any]:
    def damage(folder: Path) -> None:
        path = folder / "meta/info.json"
        info = json.loads(path.read_text())
        info["features"][name] = {"dtype": "video", "shape": [48, 64, 3]}
        path.write_text(json.dumps(info))

    return damage


def _column(file: str, name: str, values: list[Any] | None) -> Callable[[Path], Any]:
    def damage(folder: Path) -> None:
        table = pq.read_table(folder / file).drop([name])
        pq.write_table(table if values is None else table.append_column(name, [values]), folder / file)

    return damage


def _linked(folder: Path) -> None:
    """The video is a link to another place."""
    (folder / VIDEO).rename(folder.parent / "elsewhere.mp4")
    os.symlink(folder.parent / "elsewhere.mp4", folder / VIDEO)


STARTS = [0.0, 0.4, 1.1]
HOSTILE: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "truncated data": (_cut(DATA, 900), "set", "cannot be read"),
    "truncated episodes": (_cut(EPISODES, 300), "episodes", "cannot be read"),
    "truncated video": (_cut(VIDEO, 700), "set", "cannot be read"),
    "no video": (lambda folder: (folder / VIDEO).unlink(), "set", "cannot be read"),
    "no episodes": (lambda folder: shutil.rmtree(folder / "meta/episodes"), "episodes", "has no episode"),
    "no JSON": (lambda folder: (folder / "meta/info.json").write_text("[]"), "info.json", "not a JSON object"),
    "old version": (_info(codebase_version="v2.1"), "info.json", "only v3"),
    "no rate": (_info(fps=0), "info.json", "no frames per second"),
    "path in a name": (_feature("observation.../../../etc"), "info.json", "no name of an observation"),
    "no actions": (_column(DATA, "action", None), "set", "lacks the column 'action'"),
    "uneven actions": (_column(DATA, "action", [[0.0] * (1 + t % 2) for t in range(14)]), "set", "cannot be read"),
    "no numbers": (_column(DATA, "observation.state", ["a"] * 14), "set", "no numbers"),
    "infinite": (_column(DATA, "next.reward", [float("inf")] * 14), "set", "NaN or infinity"),
    "fewer frames": (_column(DATA, "episode_index", [0] * 3 + [1] * 8 + [2] * 3), "set", "3 frames of episode 0"),
    "no length": (_column(EPISODES, "length", None), "episodes", "lacks the column 'length'"),
    "wrong length": (_column(EPISODES, "length", [-4, 7, 3]), "episodes", "no episode"),
    "file beyond": (_column(EPISODES, "data/file_index", [0, 9, 0]), "set", "cannot be read"),
    "late video": (_column(EPISODES, f"videos/{CAMERA}/from_timestamp", [0.0, 0.4, 1.3]), "episode 2", "1 frames of"),
    "link": (_linked, "set", "link to another place"),
}


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lerobot(tmp_path_factory.mktemp("valid") / "set", LENGTHS)


@pytest.mark.parametrize("name", HOSTILE)
def test_import_bad_set_is_refused_by_name(name: str, valid: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "work").mkdir()
    source = tmp_path / "work" / "set"
    shutil.copytree(valid, source)
    damage, file, reason = HOSTILE[name]
    damage(source)
    assert reason in refused(capsys, file, source)
