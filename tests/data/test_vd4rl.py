"""v-d4rl's HDF5 files: rows of several episodes, round trips, and files that are refused."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from tests.helpers.recordings import (
    ARM,
    PICTURES,
    POLE,
    assert_same,
    image_space,
    make_episodes,
    make_spec,
    refused,
    run,
    store,
    stored,
)

h5py = pytest.importorskip("h5py", reason="h5py is not installed (pip install 'reverie[data]').")
WALKER = make_spec(spaces.Box(-1, 1, (2,)), image=image_space())


def rows() -> dict[str, Any]:
    """Return two episodes of three and two rows as v-d4rl stores them."""
    rng = np.random.default_rng(0)
    return {
        "observation": rng.integers(0, 256, (5, 3, 84, 84), np.uint8),
        "action": np.array([[0, 0], [0.5, -1], [1, 0], [0, 0], [0.25, 0.25]], np.float32),
        "reward": np.array([0, 1, 2, 0, 3], np.float32),
        "discount": np.array([1, 1, 1, 1, 0], np.float32),
        "step_type": np.array([0, 1, 2, 0, 2]),
    }


def write(folder: Path, name: str = "data.hdf5", **changed: Any) -> Path:
    folder.mkdir(exist_ok=True)
    with h5py.File(folder / name, "w") as file:
        for key, values in {**rows(), **changed}.items():
            if values is not None:
                file[key] = values
    return folder


def test_import_episodes_begin_at_first_steps(tmp_path: Path) -> None:
    images = np.full((5, 3, 84, 84), 7, np.uint8)
    images[:, 1] = 9
    write(tmp_path / "set", observation=images)
    assert run("import", tmp_path / "set", tmp_path / "data") == 0
    first, second = stored(tmp_path / "data")
    assert first["action"].tolist() == [[0, 0], [0.5, -1], [1, 0]] and second["action"].tolist() == [[0, 0], [0.25] * 2]
    assert first["reward"].tolist() == [0, 1, 2] and second["reward"].tolist() == [0, 3]
    assert not first["is_terminal"].any() and second["is_terminal"].tolist() == [False, True]
    assert first["image"].shape == (3, 64, 64, 3) and (first["image"] == [7, 9, 7]).all()


def test_import_shards_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path / "set", "b.hdf5", reward=np.full(5, 2, np.float32))
    write(tmp_path / "set", "a.hdf5")
    run("import", tmp_path / "set", tmp_path / "data", "--format", "vd4rl")
    assert [episode["reward"][-1] for episode in stored(tmp_path / "data")] == [2, 3, 2, 2]


@pytest.mark.parametrize("spec", [PICTURES, WALKER], ids=["discrete", "continuous"])
def test_round_trip_is_exact(spec: Any, tmp_path: Path) -> None:
    episodes = make_episodes(spec, (0, 5, 70, 1))
    episodes[2]["action"][0], episodes[2]["reward"][0] = episodes[2]["action"][1], 4
    store(tmp_path / "data", spec, episodes)
    assert run("export", tmp_path / "data", tmp_path / "set", "--format", "vd4rl") == 0
    assert run("import", tmp_path / "set", tmp_path / "back") == 0
    assert_same(stored(tmp_path / "back"), episodes)


def test_export_has_the_documented_keys(tmp_path: Path) -> None:
    [episode] = episodes = make_episodes(WALKER, [3])
    store(tmp_path / "data", WALKER, episodes)
    run("export", tmp_path / "data", tmp_path / "set", "--format", "vd4rl")
    with h5py.File(tmp_path / "set" / "data.hdf5") as file:
        assert file["step_type"][()].tolist() == [0, 1, 1, 2] and file["discount"][()].tolist() == [1, 1, 1, 0]
        assert (file["observation"][2, 1] == episode["image"][2, :, :, 1]).all()
        assert sorted(file) == sorted(rows())


def test_export_says_which_observations_are_lost(tmp_path: Path, capsys: Any) -> None:
    store(tmp_path / "data", ARM, make_episodes(ARM))
    assert run("export", tmp_path / "data", tmp_path / "set", "--format", "vd4rl") == 0
    assert "does not hold the observations 'vector', 'joint'" in capsys.readouterr().out


def test_export_without_images_is_refused(tmp_path: Path, capsys: Any) -> None:
    store(tmp_path / "data", POLE, make_episodes(POLE))
    assert run("export", tmp_path / "data", tmp_path / "set", "--format", "vd4rl") == 1
    assert "Nothing was written" in capsys.readouterr().err and sorted(os.listdir(tmp_path)) == ["data"]


def _with(**changed: Any) -> Callable[[Path], Any]:
    return lambda folder: write(folder, "bad.hdf5", **changed)


def _cut(folder: Path) -> None:
    write(folder, "bad.hdf5")
    data = (folder / "bad.hdf5").read_bytes()
    (folder / "bad.hdf5").write_bytes(data[: len(data) // 2])


def _external(folder: Path) -> None:
    """An array whose bytes are those of another file."""
    write(folder, "bad.hdf5", reward=None)
    with h5py.File(folder / "bad.hdf5", "a") as file:
        file.create_dataset("reward", (5,), np.float32, external=[("/etc/passwd", 0, 20)])


def _virtual(folder: Path) -> None:
    write(folder, "bad.hdf5", reward=None)
    layout = h5py.VirtualLayout((5,), np.float32)
    layout[:] = h5py.VirtualSource("data.hdf5", "reward", (5,))
    with h5py.File(folder / "bad.hdf5", "a") as file:
        file.create_virtual_dataset("reward", layout)


def _large(folder: Path) -> None:
    write(folder, "bad.hdf5", reward=None)
    with h5py.File(folder / "bad.hdf5", "a") as file:
        file.create_dataset("reward", (1 << 40,), np.float32, chunks=(99,))


HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (_cut, "truncated file"),
    "no HDF5": (lambda folder: (folder / "bad.hdf5").write_bytes(b"hello"), "signature"),
    "no step types": (_with(step_type=None), "lacks 'step_type'"),
    "no start": (_with(step_type=np.array([1, 1, 2, 0, 2])), "first step"),
    "unknown step type": (_with(step_type=np.array([0, 7, 2, 0, 2])), "other than 0, 1 and 2"),
    "continues": (_with(step_type=np.array([0, 2, 2, 0, 2])), "after its last step"),
    "continues after the end": (_with(discount=np.array([1, 0, 1, 1, 1])), "after a discount of 0"),
    "fewer rewards": (_with(reward=np.zeros(4, np.float32)), "next to 5 observations"),
    "flat": (_with(observation=np.zeros((5, 9), np.uint8)), "[N, C, H, W]"),
    "floats": (_with(observation=np.zeros((5, 3, 64, 64), np.float32)), "[N, C, H, W]"),
    "other size": (_with(observation=np.zeros((5, 3, 32, 32), np.uint8)), "has shape (3, 32, 32)"),
    "beyond": (_with(action=np.full((5, 2), 3, np.float32)), "beyond [-1, 1]"),
    "NaN": (_with(action=np.full((5, 2), np.nan, np.float32)), "NaN"),
    "link": (_with(reward=h5py.ExternalLink("/etc/passwd", "/")), "not followed"),
    "external": (_external, "in another file"),
    "virtual": (_virtual, "in another file"),
    "too large": (_large, "once unpacked"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_import_bad_file_is_refused_by_name(name: str, tmp_path: Path, capsys: Any) -> None:
    source = write(tmp_path / "set", "aaa.hdf5")
    damage, reason = HOSTILE[name]
    damage(source)
    assert reason in refused(capsys, "bad.hdf5", source)
    shutil.rmtree(source)
