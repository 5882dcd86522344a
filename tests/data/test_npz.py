"""The release's npz episodes: flags that old files lack, names, round trips, and archives that are refused."""

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from reverie.data import open_recording
from tests.helpers.recordings import (
    ARM,
    PICTURES,
    SPECS,
    assert_same,
    make_episodes,
    make_spec,
    refused,
    run,
    store,
    stored,
    vector_space,
)


def arrays(length: int = 4) -> dict[str, Any]:
    """Arrays of a file as the release writes it, of so many rows."""
    [episode] = make_episodes(PICTURES, [length - 1])
    return dict(episode)


@pytest.mark.parametrize("name", SPECS)
def test_round_trip_is_exact(name: str, tmp_path: Path) -> None:
    spec, episodes = SPECS[name], make_episodes(SPECS[name], (0, 5, 1, 9))
    store(tmp_path / "data", spec, episodes)
    assert run("export", tmp_path / "data", tmp_path / "npz", "--format", "npz") == 0
    assert run("import", tmp_path / "npz", tmp_path / "back") == 0
    assert_same(stored(tmp_path / "back"), episodes)
    assert open_recording(tmp_path / "back").spec == spec


def test_export_keys_that_numpy_uses_itself(tmp_path: Path) -> None:
    spec = make_spec(
        spaces.Discrete(2), file=vector_space(), allow_pickle=vector_space(1), **{"arm/angle": vector_space()}
    )
    episodes = make_episodes(spec)
    store(tmp_path / "data", spec, episodes)
    run("export", tmp_path / "data", tmp_path / "npz")
    run("import", tmp_path / "npz", tmp_path / "back")
    assert_same(stored(tmp_path / "back"), episodes)
    file = min((tmp_path / "npz").glob("*.npz"))
    with np.load(file) as arrays:
        assert (arrays["file"] == episodes[0]["file"]).all()


def test_export_split_episode_keeps_what_led_to_it(tmp_path: Path) -> None:
    episodes = make_episodes(ARM)
    episodes[1]["action"][0], episodes[1]["reward"][0] = 0.5, 3
    store(tmp_path / "data", ARM, episodes)
    run("export", tmp_path / "data", tmp_path / "npz")
    run("import", tmp_path / "npz", tmp_path / "back")
    assert_same(stored(tmp_path / "back"), episodes)
    assert any("shifted" in note for note in read_notes(tmp_path / "npz"))


def read_notes(path: Path) -> list[str]:
    recording = open_recording(path)
    assert [*recording]
    return recording.notes


def test_export_names_have_the_release_form_and_equal_episodes_equal_bytes(tmp_path: Path) -> None:
    store(tmp_path / "data", PICTURES, make_episodes(PICTURES, [5, 12]))
    for name in ("one", "other"):
        run("export", tmp_path / "data", tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "one").glob("*.npz"))
    assert [name.rpartition("-")[2] for name in names] == ["5.npz", "12.npz"]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes() for name in names)


def test_import_wrong_length_in_the_name_is_not_read(tmp_path: Path) -> None:
    rows = arrays(6)
    (tmp_path / "npz").mkdir()
    np.savez(tmp_path / "npz" / "20200101T000000-0123456789abcdef-999.npz", **rows)
    run("import", tmp_path / "npz", tmp_path / "data")
    assert [len(episode["action"]) for episode in stored(tmp_path / "data")] == [6]


@pytest.mark.parametrize("discount, is_terminal", [([1, 1, 1, 0], True), ([1, 1, 1, 1], False)])
def test_import_old_file_takes_terminal_from_discount(discount: list[float], is_terminal: bool, tmp_path: Path) -> None:
    rows = arrays()
    for name in ("is_first", "is_last", "is_terminal"):
        del rows[name]
    (tmp_path / "npz").mkdir()
    np.savez(tmp_path / "npz" / "old.npz", **rows, discount=np.array(discount, np.float32))
    run("import", tmp_path / "npz", tmp_path / "data")
    [episode] = stored(tmp_path / "data")
    assert episode["is_terminal"].tolist() == [False, False, False, is_terminal]
    assert episode["is_last"].tolist() == [False, False, False, True]
    assert episode["is_first"].tolist() == [True, False, False, False]
    assert "discount" not in episode


def test_import_glued_episodes_are_split(tmp_path: Path) -> None:
    rows = arrays(7)
    rows["is_first"][4] = True
    rows["action"][4] = rows["reward"][4] = 0
    (tmp_path / "npz").mkdir()
    np.savez(tmp_path / "npz" / "glued.npz", **rows)
    run("import", tmp_path / "npz", tmp_path / "data")
    first, second = stored(tmp_path / "data")
    assert (len(first["reward"]), len(second["reward"])) == (4, 3)
    assert (first["reward"] == rows["reward"][:4]).all() and (second["reward"] == rows["reward"][4:]).all()
    assert first["is_last"][-1] and not first["is_terminal"][-1] and second["is_terminal"][-1]


def test_import_large_images_and_bytes_are_converted_as_live_ones(tmp_path: Path) -> None:
    rows = arrays()
    image, ram = np.full((4, 128, 128, 3), 7, np.uint8), np.full((4, 128), 255, np.uint8)
    image[:, ::2] = 9
    (tmp_path / "npz").mkdir()
    np.savez(tmp_path / "npz" / "a.npz", **{**rows, "image": image, "ram": ram, "reward": rows["reward"].astype(float)})
    run("import", tmp_path / "npz", tmp_path / "data")
    [episode] = stored(tmp_path / "data")
    assert (episode["image"] == 8).all() and episode["image"].shape == (4, 64, 64, 3)
    assert (episode["ram"] == 0.5).all() and episode["ram"].dtype == np.float32


def _save(folder: Path, rows: dict[str, Any]) -> None:
    np.savez(folder / "bad.npz", **rows)


def _truncated(folder: Path) -> None:
    _save(folder, arrays())
    data = (folder / "bad.npz").read_bytes()
    (folder / "bad.npz").write_bytes(data[: len(data) // 2])


def _damaged(folder: Path) -> None:
    _save(folder, arrays())
    data = bytearray((folder / "bad.npz").read_bytes())
    data[5000] ^= 255
    (folder / "bad.npz").write_bytes(data)


def _member(name: str, content: bytes, compression: int = zipfile.ZIP_STORED) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        _save(folder, arrays())
        with zipfile.ZipFile(folder / "bad.npz", "a", compression) as archive:
            archive.writestr(name, content)

    return write


def _npy(array: Any) -> bytes:
    data = io.BytesIO()
    np.save(data, array, allow_pickle=True)
    return data.getvalue()


def _huge(folder: Path) -> None:
    """An array of terabytes in a file of some hundred bytes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})
    _member("vector.npy", header.getvalue())(folder)


def _without(*names: str) -> Callable[[Path], None]:
    return lambda folder: _save(folder, {name: rows for name, rows in arrays().items() if name not in names})


def _with(**changed: Any) -> Callable[[Path], None]:
    return lambda folder: _save(folder, {**arrays(), **changed})


HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (_truncated, "not a zip file"),
    "damaged": (_damaged, "Bad CRC"),
    "empty": (lambda folder: (folder / "bad.npz").write_bytes(b""), "not a zip file"),
    "no archive": (lambda folder: (folder / "bad.npz").write_bytes(b"GIF89a" * 99), "not a zip file"),
    "pickle": (_with(vector=np.array([{}, {}, {}, {}], object)), "pickled objects"),
    "path": (_member("../../escaped.npy", _npy(np.zeros(4, np.float32))), "no name of an observation"),
    "absolute path": (_member("/tmp/escaped.npy", _npy(np.zeros(4, np.float32))), "no name of an observation"),
    "huge": (_huge, "cut off"),
    "bomb": (_member("vector.npy", bytes(1 << 24), zipfile.ZIP_DEFLATED), "once unpacked"),
    "no array": (_member("readme.txt", b"hello"), "no array"),
    "no action": (_without("action"), "lacks 'action'"),
    "no reward": (_without("reward"), "lacks 'reward'"),
    "no end": (_without("is_terminal"), "lacks 'is_terminal'"),
    "no image": (_without("image"), "'image' is missing"),
    "other lengths": (_with(reward=np.zeros(3, np.float32)), "different lengths"),
    "flat image": (_with(image=np.zeros((4, 64), np.uint8)), "has shape (64,)"),
    "text": (_with(reward=np.array(["a", "b", "c", "d"])), "no numbers"),
    "NaN": (_with(reward=np.array([0, 1, np.nan, 0], np.float32)), "NaN"),
    "not one-hot": (_with(action=np.ones((4, 3), np.float32)), "not one-hot"),
    "other actions": (_with(action=np.eye(4, dtype=np.float32)), "'action' of float32 (4, 4)"),
    "ends within": (_with(is_terminal=np.array([False, True, False, False])), "continues after its last step"),
    "no rows": (lambda folder: _save(folder, {name: rows[:0] for name, rows in arrays().items()}), "no step"),
}


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("valid")
    np.savez(folder / "aaa.npz", **arrays())
    return folder


@pytest.mark.parametrize("name", HOSTILE)
def test_import_bad_file_is_refused_by_name(
    name: str, valid: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reverie.data.episodes.MAX_BYTES", 1 << 23)
    (tmp_path / "work").mkdir()
    source = tmp_path / "work" / "npz"
    shutil.copytree(valid, source)
    damage, reason = HOSTILE[name]
    damage(source)
    assert reason in refused(capsys, "bad.npz", source)
    assert not (tmp_path / "escaped.npy").exists()


def test_import_bad_file_leaves_existing_data_as_it_was(valid: Path, tmp_path: Path) -> None:
    source, data = tmp_path / "npz", tmp_path / "data"
    shutil.copytree(valid, source)
    run("import", source, data)
    before = stored(data)
    _with(reward=np.full(4, np.inf, np.float32))(source)  # after a valid one
    assert run("import", source, data) == 1
    assert_same(stored(data), before)
    (source / "bad.npz").unlink()
    assert run("import", source, data) == 0
    assert_same(stored(data), [*before, *before])
