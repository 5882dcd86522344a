"""Minari: the shift of actions by one, its own data sets, round trips, and data sets that are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from reverie.data.adapter import EpisodeAdapter
from reverie.envs.actions import ActionAdapter
from tests.helpers.recordings import ARM, POLE, SPECS, assert_same, make_episodes, refused, run, store, stored

minari = pytest.importorskip("minari", reason="Minari is not installed (pip install 'reverie[data]').")
h5py = pytest.importorskip("h5py", reason="h5py is not installed (pip install 'reverie[data]').")


def write(
    folder: Path, observation: Any, action: Any, episode: dict[str, Any], jpeg_encoding: bool = False, count: int = 2
) -> Path:
    """Write a data set with Minari alone, of `count` times an episode."""
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    (folder / "data").mkdir(parents=True)
    storage = MinariStorage.new(folder / "data", observation, action, jpeg_encoding=jpeg_encoding)
    storage.update_episodes([EpisodeBuffer(**episode) for _ in range(count)])
    storage.update_metadata({"dataset_id": "test/hand-v0", "minari_version": minari.__version__})
    return folder


def pole(**changed: Any) -> dict[str, Any]:
    """Return an episode of three actions as Minari keeps it."""
    return {
        "observations": np.arange(16, dtype=np.float32).reshape(4, 4),
        "actions": np.array([1, 0, 1]),
        "rewards": np.array([1.0, 2.0, 3.0]),
        "terminations": np.array([False, False, True]),
        "truncations": np.array([False, False, False]),
        "infos": {},
        **changed,
    }


OBSERVATION, ACTION = spaces.Box(-np.inf, np.inf, (4,)), spaces.Discrete(2)


def test_import_action_moves_to_the_observation_that_it_led_to(tmp_path: Path) -> None:
    write(tmp_path / "set", OBSERVATION, ACTION, pole())
    assert run("import", tmp_path / "set", tmp_path / "data") == 0
    episode, _ = stored(tmp_path / "data")
    assert episode["vector"].tolist() == np.arange(16).reshape(4, 4).tolist()
    assert episode["action"].tolist() == [[0, 0], [0, 1], [1, 0], [0, 1]]
    assert episode["reward"].tolist() == [0, 1, 2, 3]
    assert episode["is_first"].tolist() == [True, False, False, False]
    assert episode["is_last"].tolist() == episode["is_terminal"].tolist() == [False, False, False, True]


def test_import_truncated_episode_is_not_terminal(tmp_path: Path) -> None:
    ends = {"terminations": np.zeros(3, bool), "truncations": np.array([False, False, True])}
    write(tmp_path / "set", OBSERVATION, ACTION, pole(**ends))
    run("import", tmp_path / "set", tmp_path / "data")
    episode, _ = stored(tmp_path / "data")
    assert episode["is_last"][-1] and not episode["is_terminal"].any()


def test_import_box_is_the_inverse_of_what_the_environment_gets(tmp_path: Path) -> None:
    """Actions go from [-2, 6] to [-1, 1], so that the environment would get the recorded ones."""
    actions = np.array([[-2.0], [2.0], [6.0]], np.float32)
    write(tmp_path / "set", OBSERVATION, spaces.Box(-2, 6, (1,)), pole(actions=actions))
    run("import", tmp_path / "set", tmp_path / "data")
    assert stored(tmp_path / "data")[0]["action"].tolist() == [[0], [-1], [0], [1]]


def test_import_discrete_counts_from_its_start(tmp_path: Path) -> None:
    write(tmp_path / "set", OBSERVATION, spaces.Discrete(2, start=5), pole(actions=np.array([6, 5, 6])))
    run("import", tmp_path / "set", tmp_path / "data")
    assert stored(tmp_path / "data")[0]["action"].tolist() == [[0, 0], [0, 1], [1, 0], [0, 1]]


def test_import_nested_observations_and_jpeg(tmp_path: Path, capsys: Any) -> None:
    observation = spaces.Dict(
        {"camera": spaces.Box(0, 255, (64, 64, 3), np.uint8), "arm": spaces.Dict({"angle": spaces.Box(-9, 9, (2,))})}
    )
    values = {"camera": np.full((4, 64, 64, 3), 130, np.uint8), "arm": {"angle": np.ones((4, 2), np.float32)}}
    write(tmp_path / "set", observation, ACTION, pole(observations=values), jpeg_encoding=True)
    assert run("import", tmp_path / "set", tmp_path / "data") == 0
    assert "JPEG" in capsys.readouterr().out
    episode, _ = stored(tmp_path / "data")
    assert (episode["camera"] == 130).all() and (episode["arm/angle"] == 1).all()


@pytest.mark.parametrize("name", SPECS)
def test_round_trip_is_exact(name: str, tmp_path: Path, capsys: Any) -> None:
    episodes = make_episodes(SPECS[name])
    store(tmp_path / "data", SPECS[name], episodes)
    assert run("export", tmp_path / "data", tmp_path / "set", "--format", "minari") == 0
    assert run("import", tmp_path / "set", tmp_path / "back") == 0
    assert_same(stored(tmp_path / "back"), episodes)
    assert "note" not in capsys.readouterr().out


def test_export_is_what_minari_reads(tmp_path: Path) -> None:
    [episode] = episodes = make_episodes(POLE, [4])
    store(tmp_path / "data", POLE, episodes)
    run("export", tmp_path / "data", tmp_path / "set", "--format", "minari")
    found = minari.MinariDataset(str(tmp_path / "set" / "data"))[0]
    assert (found.observations["vector"] == episode["vector"]).all()
    assert found.actions.tolist() == episode["action"][1:].argmax(1).tolist()
    assert (found.rewards == episode["reward"][1:]).all()
    assert found.terminations.tolist() == [False, False, False, True] and not found.truncations.any()


def test_export_split_episode_says_what_is_lost(tmp_path: Path, capsys: Any) -> None:
    episodes = make_episodes(ARM)
    episodes[1]["action"][0] = 0.5
    store(tmp_path / "data", ARM, episodes)
    run("export", tmp_path / "data", tmp_path / "set", "--format", "minari")
    assert "first action and reward of 1 split" in capsys.readouterr().out


def _metadata(**changed: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "data" / "metadata.json"
        merged = {**json.loads(path.read_text()), **changed}
        path.write_text(json.dumps({name: value for name, value in merged.items() if value is not None}))

    return damage


def _file(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
            change(file)

    return damage


def _replace(name: str, values: Any) -> Callable[[Path], None]:
    def change(file: Any) -> None:
        del file[f"episode_1/{name}"]
        if values is not None:
            file[f"episode_1/{name}"] = values

    return _file(change)


def _cut(folder: Path) -> None:
    path = folder / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[:3000])


MAIN, METADATA = "main_data.hdf5", "metadata.json"
HOSTILE: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "truncated": (_cut, MAIN, "truncated file"),
    "no rewards": (_replace("rewards", None), MAIN, "rewards"),
    "fewer actions": (_replace("actions", np.array([1, 0])), MAIN, "rewards of shape (3,) next to 2 actions"),
    "fewer observations": (_replace("observations", np.zeros((3, 4), np.float32)), MAIN, "4 rows are needed"),
    "wider": (_replace("observations", np.zeros((4, 5), np.float32)), MAIN, "has shape (5,)"),
    "another class": (_replace("actions", np.array([1, 2, 0])), MAIN, "outside of its 2 classes"),
    "ends within": (_replace("terminations", np.array([True, False, True])), MAIN, "after it has terminated"),
    "infinite": (_replace("rewards", np.array([1, np.inf, 0])), MAIN, "NaN or infinity"),
    "too large": (
        _file(lambda file: file.create_dataset("episode_1/a", (1 << 40,), "f4", chunks=(9,))),
        MAIN,
        "unpacked",
    ),
    "link": (_replace("rewards", h5py.ExternalLink("/etc/passwd", "/")), MAIN, "not followed"),
    "soft link": (_replace("rewards", h5py.SoftLink("/episode_0/rewards")), MAIN, "not followed"),
    "fewer episodes": (_metadata(total_episodes=7), MAIN, "holds 2 episodes"),
    "no space": (_metadata(action_space=None), METADATA, "lacks 'action_space'"),
    "space of no kind": (_metadata(action_space="{}"), METADATA, "cannot be read"),
    "other format": (_metadata(data_format="arrow"), METADATA, "only hdf5"),
    "no JSON": (lambda folder: (folder / "data" / METADATA).write_text("{"), METADATA, "not valid JSON"),
}


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("valid") / "set", OBSERVATION, ACTION, pole())


@pytest.mark.parametrize("name", HOSTILE)
def test_import_bad_set_is_refused_by_name(name: str, valid: Path, tmp_path: Path, capsys: Any) -> None:
    shutil.copytree(valid, tmp_path / "set")
    damage, file, reason = HOSTILE[name]
    damage(tmp_path / "set")
    assert reason in refused(capsys, file, tmp_path / "set")


def test_import_without_spaces_makes_no_environment(
    valid: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minari itself would make the environment, whose id can name any module."""
    shutil.copytree(valid, tmp_path / "set")
    spec = '{"id": "antigravity:Escape-v0", "entry_point": "antigravity:geohash"}'
    _metadata(observation_space=None, env_spec=spec)(tmp_path / "set")
    monkeypatch.setattr(gym, "make", lambda *_, **__: pytest.fail("An environment was made."))
    refused(capsys, METADATA, tmp_path / "set")


def test_import_without_minari_names_the_extra(
    valid: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(valid, tmp_path / "set")
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    assert "pip install 'reverie[data]'" in refused(capsys, "minari", tmp_path / "set")


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-2, 6, (2, 3)),
        spaces.Box(np.array([0, -5.0]), np.array([1e-3, 5e4]), dtype=np.float64),
        spaces.Box(-np.inf, np.inf, (2,)),
        spaces.Box(3, np.inf, (1,)),
        spaces.Box(-np.inf, -1, (1,)),
        spaces.Box(0, 200, (2,), np.uint8),
        spaces.Box(-2, 5, (2,), np.int32),
        spaces.Discrete(5, start=-2),
        spaces.MultiDiscrete([3, 4], start=[1, -2]),
        spaces.MultiDiscrete([[2, 3], [4, 5]]),
        spaces.MultiBinary((2, 2)),
    ],
    ids=str,
)
def test_import_action_of_any_space_is_what_the_environment_would_get(space: Any) -> None:
    """The conversion that live environments use, checked by itself elsewhere, leads back to the recorded action."""
    space.seed(0)
    actions = np.stack([space.sample() for _ in range(50)])
    adapter = EpisodeAdapter(spaces.Dict({"vector": OBSERVATION}), space, "Test")
    vectors = adapter.actions(actions)
    assert vectors.shape == (50, adapter.spec.action.size) and vectors.dtype == np.float32
    to_env = ActionAdapter(space, "Test")
    for vector, action in zip(vectors, actions, strict=True):
        if np.abs(action).max() < 3.5 or np.isfinite([space.low, space.high] if hasattr(space, "low") else 0).all():
            np.testing.assert_allclose(to_env(vector), action, rtol=2e-3, atol=1e-5)
