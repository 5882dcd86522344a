"""The numbers of `reverie data inspect`, by hand, and its contact sheet."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

from reverie.data.sheet import GAP, LABEL, LINE, TILE, ContactSheet
from reverie.data.summary import summarize
from tests.helpers.recordings import PICTURES, POLE, image_space, make_episodes, make_spec, run, store


def hand_made(actions: list[int], rewards: list[float], is_terminal: bool) -> dict[str, Any]:
    """Return an episode of CartPole-like observations that count its rows."""
    length = len(actions) + 1
    rows = np.arange(length)
    return {
        "vector": np.repeat(rows[:, None], 4, 1).astype(np.float32),
        "action": np.concatenate([np.zeros((1, 2)), np.eye(2)[actions]]).astype(np.float32),
        "reward": np.array([0, *rewards], np.float32),
        "is_first": rows == 0,
        "is_last": rows == length - 1,
        "is_terminal": (rows == length - 1) & is_terminal,
    }


def test_inspect_numbers_of_hand_made_episodes(tmp_path: Path, capsys: Any) -> None:
    episodes = [hand_made([0, 1, 1, 1], [1, 1, -0.5, 2], True), hand_made([0, 0], [0, 1], False)]
    store(tmp_path / "data", POLE, episodes)
    assert run("inspect", tmp_path / "data", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["episodes"], found["steps"], found["terminal"]) == (2, 6, 1)
    assert found["returns"] == {"mean": 2.25, "std": 1.25, "min": 1.0, "max": 3.5}
    assert found["lengths"] == {"mean": 3.0, "std": 1.0, "min": 2.0, "max": 4.0}
    assert found["episode_returns"] == [3.5, 1.0] and found["episode_lengths"] == [4, 2]
    assert found["observations"] == {"vector": {"shape": [4], "dtype": "float32", "min": 0.0, "max": 4.0}}
    assert found["action"] == {"kind": "discrete", "sizes": [2], "histogram": [[3, 3]]}
    assert found["notes"] == [] and found["source"] == str(tmp_path / "data")


def test_inspect_prints_the_same_for_people(tmp_path: Path, capsys: Any) -> None:
    store(tmp_path / "data", POLE, [hand_made([0, 1, 1, 1], [1, 1, -0.5, 2], True), hand_made([0, 0], [0, 1], False)])
    assert run("inspect", tmp_path / "data") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "episodes 2: 1 terminal, 1 cut short" in text and "steps 6" in text
    assert "return mean 2.25, standard deviation 1.25, from 1 to 3.5" in text
    assert "observation vector: float32 4, from 0 to 4" in text
    assert "│ 0 │ 3 │ 50.0 % │" in text and "│ 1 │ 3 │ 50.0 % │" in text


def test_inspect_histogram_of_several_categoricals_and_of_dimensions(tmp_path: Path) -> None:
    lamps = make_spec(spaces.MultiDiscrete([2, 3]), image=image_space())
    arm = make_spec(spaces.Box(-1, 1, (2,)), image=image_space())
    for spec in (lamps, arm):
        episodes = make_episodes(spec, (7, 3))
        store(tmp_path / spec.action.kind, spec, episodes)
        from reverie.data import open_recording

        found = summarize(open_recording(tmp_path / spec.action.kind))
        assert found is not None
        actions = np.concatenate([episode["action"][1:] for episode in episodes])
        if spec is lamps:
            expected = [[int((actions[:, k] == 1).sum()) for k in part] for part in ([0, 1], [2, 3, 4])]
        else:
            bins = np.minimum(np.floor((actions + 1) * 5), 9)
            expected = [[int((bins[:, k] == b).sum()) for b in range(10)] for k in range(2)]
        assert found.action["histogram"] == expected


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sheet_shows_frames_in_rows(channels: int, tmp_path: Path) -> None:
    spec = make_spec(spaces.Discrete(3), image=image_space(channels))
    episodes = make_episodes(spec, (15, 2))
    for number, episode in enumerate(episodes):
        for t in range(len(episode["image"])):
            episode["image"][t] = 16 * t + number
    store(tmp_path / "data", spec, episodes)
    assert run("inspect", tmp_path / "data", "--sheet", tmp_path / "sheet.png") == 0
    picture = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert picture.shape[2] == 3
    for row, times in enumerate([[0, 2, 4, 6, 9, 11, 13, 15], [0, 1, 2]]):
        for column, t in enumerate(times):
            y = GAP + row * (TILE + LINE + GAP)
            x = GAP + LABEL + column * (TILE + GAP)
            assert (picture[y : y + TILE, x : x + TILE] == 16 * t + row).all(), (row, t)


def test_sheet_of_many_episodes_shows_some_from_first_to_last(tmp_path: Path) -> None:
    sheet = ContactSheet("image", rows=4)
    for number, episode in enumerate(make_episodes(PICTURES, [1] * 100)):
        sheet.add(number, episode)
    shown = [int(lines[0].split()[1]) for lines, _, _ in sheet._rows]
    assert 4 <= len(shown) <= 8 and shown[0] == 0 and shown[-1] >= 80
    assert len(set(np.diff(shown))) == 1
    height = Image.open(sheet.save(tmp_path / "sheet.png")).size[1]
    assert height == GAP + 4 * (TILE + LINE + GAP)


def test_sheet_of_another_ending_is_refused(tmp_path: Path, capsys: Any) -> None:
    store(tmp_path / "data", PICTURES, make_episodes(PICTURES))
    assert run("inspect", tmp_path / "data", "--sheet", tmp_path / "sheet.jpg") == 2
    assert "must end in .png" in capsys.readouterr().err
