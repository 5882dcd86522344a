"""A folder of pictures or videos with a table: its layout, round trips, and folders that are refused."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

from reverie.data import open_recording
from tests.helpers.recordings import (
    ARM,
    SPECS,
    assert_same,
    image_space,
    make_episodes,
    make_spec,
    refused,
    run,
    store,
    stored,
)

TABLE = """episode,action,reward,terminated
one,2,0.5,0
one,0,1,1
one,,,
two,1,0,0
two,,,
"""


def write(folder: Path, table: str = TABLE, **pictures: int) -> Path:
    """Write a table, and so many pictures of each episode, where picture t has the brightness 10 t."""
    folder.mkdir(parents=True)
    (folder / "steps.csv").write_text(table)
    for name, count in (pictures or {"one": 3, "two": 2}).items():
        (folder / name).mkdir()
        for t in range(count):
            Image.new("RGB", (80, 96), (10 * t, 0, 255)).save(folder / name / f"{t:03d}.png")
    return folder


def test_import_pictures_and_table(tmp_path: Path) -> None:
    write(tmp_path / "mine")
    assert run("import", tmp_path / "mine", tmp_path / "data") == 0
    one, two = stored(tmp_path / "data")
    assert one["action"].tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, 0]] and two["action"].tolist() == [
        [0] * 3,
        [0, 1, 0],
    ]
    assert one["reward"].tolist() == [0, 0.5, 1] and two["reward"].tolist() == [0, 0]
    assert one["is_terminal"].tolist() == [False, False, True] and not two["is_terminal"].any()
    assert one["image"].shape == (3, 64, 64, 3)
    assert (one["image"] == np.array([[0, 0, 255], [10, 0, 255], [20, 0, 255]])[:, None, None]).all()


def test_import_last_action_without_a_picture_is_left_out(tmp_path: Path, capsys: Any) -> None:
    write(tmp_path / "mine", "episode,action\none,0\none,1\none,1\n", one=3)
    run("import", tmp_path / "mine", tmp_path / "data")
    assert "left out" in capsys.readouterr().out
    assert stored(tmp_path / "data")[0]["action"].tolist() == [[0, 0], [1, 0], [0, 1]]


def test_import_one_more_picture_than_rows(tmp_path: Path) -> None:
    write(tmp_path / "mine", "episode,action\none,0\none,1\n", one=3)
    run("import", tmp_path / "mine", tmp_path / "data")
    assert stored(tmp_path / "data")[0]["action"].tolist() == [[0, 0], [1, 0], [0, 1]]


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".avi", ".gif"])
def test_import_video(ending: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", TABLE, two=2)
    frames = [np.full((96, 80, 3), 80 * t, np.uint8) for t in range(3)]
    # mpeg4 fits into each container but GIF.
    options = {} if ending == ".gif" else {"fps": 5, "codec": "mpeg4", "macro_block_size": 1}
    with imageio.get_writer(folder / f"one{ending}", **options) as writer:
        for frame in frames:
            writer.append_data(frame)
    assert run("import", folder, tmp_path / "data") == 0
    episode, _ = stored(tmp_path / "data")
    np.testing.assert_allclose(episode["image"].mean((1, 2, 3)), [0, 80, 160], atol=6)


def test_import_continuous_actions_and_vectors_without_pictures(tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "steps.csv").write_text(
        "episode,action.0,action.1,reward,pose.1,pose.0\na,-4,1,1,2,1\na,4,0,1,4,3\na,,,,6,5\n"
    )
    assert run("import", folder, tmp_path / "data") == 0
    assert "Actions of [-4, 4] x [0, 1] are scaled" in capsys.readouterr().out
    [episode] = stored(tmp_path / "data")
    assert episode["action"].tolist() == [[0, 0], [-1, 1], [1, -1]]
    assert episode["pose"].tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize("name", SPECS)
def test_round_trip_is_exact(name: str, tmp_path: Path, capsys: Any) -> None:
    spec, episodes = SPECS[name], make_episodes(SPECS[name])
    store(tmp_path / "data", spec, episodes)
    assert run("export", tmp_path / "data", tmp_path / "mine", "--format", "folder") == 0
    assert run("import", tmp_path / "mine", tmp_path / "back") == 0
    assert_same(stored(tmp_path / "back"), episodes)
    assert open_recording(tmp_path / "back").spec == spec
    assert "note" not in capsys.readouterr().out


@pytest.mark.parametrize("channels", [2, 4])
def test_round_trip_images_of_more_channels(channels: int, tmp_path: Path) -> None:
    spec = make_spec(spaces.Discrete(3), view=image_space(channels))
    episodes = make_episodes(spec)
    store(tmp_path / "data", spec, episodes)
    run("export", tmp_path / "data", tmp_path / "mine", "--format", "folder")
    run("import", tmp_path / "mine", tmp_path / "back")
    assert_same(stored(tmp_path / "back"), episodes)


def test_export_split_episode_says_what_is_lost(tmp_path: Path, capsys: Any) -> None:
    episodes = make_episodes(ARM)
    episodes[2]["reward"][0] = 1
    store(tmp_path / "data", ARM, episodes)
    run("export", tmp_path / "data", tmp_path / "mine", "--format", "folder")
    assert "first action and reward of 1 split" in capsys.readouterr().out


@pytest.mark.parametrize(
    "spec",
    [
        make_spec(spaces.Discrete(2), image=image_space(9)),
        make_spec(spaces.Discrete(2), left=image_space(), right=image_space()),
    ],
    ids=["stack", "two"],
)
def test_export_other_images_are_refused(spec: Any, tmp_path: Path, capsys: Any) -> None:
    store(tmp_path / "data", spec, make_episodes(spec))
    assert run("export", tmp_path / "data", tmp_path / "mine", "--format", "folder") == 1
    assert "Nothing was written" in capsys.readouterr().err and not (tmp_path / "mine").exists()


def _table(text: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / "steps.csv").write_text(text)


def _large(folder: Path) -> None:
    """A picture of gigabytes in a file of some hundred bytes."""
    data = bytearray((folder / "one" / "001.png").read_bytes())
    data[16:24] = (9000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (folder / "one" / "001.png").write_bytes(data)


def _linked(folder: Path) -> None:
    (folder / "two").rename(folder.parent.parent / "elsewhere")
    os.symlink(folder.parent.parent / "elsewhere", folder / "two")


def _linked_picture(folder: Path) -> None:
    (folder / "two" / "001.png").rename(folder.parent.parent / "secret.png")
    os.symlink(folder.parent.parent / "secret.png", folder / "two" / "001.png")


def _playlist(folder: Path) -> None:
    """A list of videos under the name of one, which ffmpeg would follow."""
    shutil.rmtree(folder / "one")
    with imageio.get_writer(folder / "secret.mp4", fps=5, codec="mpeg4", macro_block_size=1) as writer:
        for _ in range(3):
            writer.append_data(np.zeros((96, 80, 3), np.uint8))
    (folder / "one.mp4").write_text("ffconcat version 1.0\nfile secret.mp4\n")


HOSTILE: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "path": (_table(TABLE.replace("two", "../two")), "steps.csv", "no name of a folder"),
    "absolute path": (_table(TABLE.replace("two", "/etc")), "steps.csv", "no name of a folder"),
    "link": (_linked, "steps.csv", "link to another place"),
    "linked picture": (_linked_picture, "001.png", "link to another place"),
    "truncated picture": (
        lambda f: (f / "one/002.png").write_bytes((f / "one/002.png").read_bytes()[:60]),
        "002.png",
        "",
    ),
    "no picture": (lambda f: (f / "one/000.png").write_bytes(b"hello"), "000.png", "cannot identify"),
    "too large": (_large, "001.png", "too large"),
    "other size": (lambda f: Image.new("RGB", (64, 64)).save(f / "one/001.png"), "one", "has shape (64, 64, 3)"),
    "grey": (lambda f: Image.new("L", (80, 96)).save(f / "two/001.png"), "two", "has shape (96, 80, 1)"),
    "fewer pictures": (
        lambda f: (f / "one/002.png").unlink() or (f / "one/001.png").unlink(),
        "one",
        "1 pictures, and 3",
    ),
    "more pictures": (
        lambda f: [shutil.copy(f / "one/000.png", f / f"one/9{i}.png") for i in range(2)],
        "one",
        "more than",
    ),
    "empty folder": (lambda f: [each.unlink() for each in (f / "two").iterdir()], "two", "holds no pictures"),
    "no folder": (lambda f: shutil.rmtree(f / "two"), "steps.csv", "no pictures"),
    "playlist": (_playlist, "one.mp4", "cannot be read"),
    "no action": (_table("episode,reward\none,1\n"), "steps.csv", "lacks the column 'action'"),
    "no text": (lambda f: (f / "steps.csv").write_bytes(b"\xff\xfe\x00"), "steps.csv", "cannot be read"),
    "no rows": (_table("episode,action\n"), "steps.csv", "has no rows"),
    "short line": (_table(TABLE.replace("one,0,1,1", "one,0")), "steps.csv", "2 entries in line 3"),
    "twice": (_table("episode,action,action\none,1,1\n"), "steps.csv", "two columns"),
    "missing entry": (_table("episode,action,pose.0,pose.2\none,1,1,1\n"), "steps.csv", "lacks the column 'pose.1'"),
    "word": (_table(TABLE.replace("0.5", "half")), "steps.csv", "could not convert"),
    "gap": (_table(TABLE.replace("one,0,1,1", "one,,1,1")), "one", "without action"),
    "continues": (_table(TABLE.replace("one,2,0.5,0", "one,2,0.5,1")), "one", "continues after it has terminated"),
    "infinite": (_table(TABLE.replace("0.5", "inf")), "one", "NaN or infinity"),
    "many actions": (_table(TABLE.replace("one,2", "one,999999999")), "steps.csv", "at most 10000"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_import_bad_folder_is_refused_by_name(name: str, tmp_path: Path, capsys: Any) -> None:
    source = write(tmp_path / "work" / "mine")
    damage, file, reason = HOSTILE[name]
    damage(source)
    assert reason in refused(capsys, file, source)
