"""Runs and replays as sources, folders of data that exist already, and what a failed transfer leaves: nothing."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie.data import Episode, Recording, export_episodes, import_episodes, open_recording
from reverie.errors import DataError, ReverieError
from reverie.replay import ReplayBuffer
from reverie.runs.locks import acquire_lock
from tests.helpers.recordings import ARM, PICTURES, POLE, SPECS, assert_same, make_episodes, run, store, stored

RUN: dict[str, Any] = {
    **{"env.parallel": False, "threads": 1, "steps": 90, "prefill": 90, "pretrain": 0, "env.num_envs": 2},
    **{"eval_every": 0, "video_every": 0, "log_every": 50, "checkpoint_every": 1000},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    reverie.train("CartPole-v1", "debug", logdir=folder, **RUN)
    return folder


def test_run_is_a_source_with_the_spaces_of_its_environment(trained: Path, tmp_path: Path, capsys: Any) -> None:
    assert run("import", trained, tmp_path / "data") == 0
    assert "unfinished episodes are left out" in capsys.readouterr().out
    assert_same(stored(tmp_path / "data"), stored(trained))
    recording = open_recording(tmp_path / "data")
    assert recording.spec == open_recording(trained).spec
    assert recording.spec.spaces is not None and recording.spec.spaces["action"]["kind"] == "Discrete"


@pytest.mark.parametrize("format", ["npz", "minari", "folder"])
def test_run_round_trip_is_exact(format: str, trained: Path, tmp_path: Path) -> None:
    if format == "minari":
        pytest.importorskip("minari", reason="Minari is not installed (pip install 'reverie[data]').")
    assert run("export", trained, tmp_path / "out", "--format", format) == 0
    assert run("import", tmp_path / "out", tmp_path / "back") == 0
    assert_same(stored(tmp_path / "back"), stored(trained))


def test_import_into_existing_data_appends(tmp_path: Path) -> None:
    first, second = make_episodes(POLE), make_episodes(POLE, seed=1)
    store(tmp_path / "data", POLE, first)
    store(tmp_path / "more", POLE, second)
    assert run("import", tmp_path / "more", tmp_path / "data") == 0
    assert_same(stored(tmp_path / "data"), [*first, *second])


def test_import_of_other_spaces_into_existing_data_is_refused(tmp_path: Path, capsys: Any) -> None:
    episodes = make_episodes(POLE)
    store(tmp_path / "data", POLE, episodes)
    store(tmp_path / "more", ARM, make_episodes(ARM))
    assert run("import", tmp_path / "more", tmp_path / "data") == 1
    error = capsys.readouterr().err
    assert "discrete actions [2]" in error and "continuous actions [2]" in error and "Nothing was stored" in error
    assert_same(stored(tmp_path / "data"), episodes)


def test_import_into_a_run_is_refused(trained: Path, tmp_path: Path, capsys: Any) -> None:
    before = stored(trained)
    assert run("import", trained, trained) == 1
    assert "holds a run" in capsys.readouterr().err
    assert_same(stored(trained), before)


def test_import_into_data_in_use_is_refused(tmp_path: Path, capsys: Any) -> None:
    data = store(tmp_path / "data", POLE, make_episodes(POLE))
    store(tmp_path / "more", POLE, make_episodes(POLE))
    lock = acquire_lock(data / ".lock")
    assert lock is not None
    try:
        assert run("import", tmp_path / "more", data) == 1
    finally:
        lock.release()
    assert "in use" in capsys.readouterr().err and len(stored(data)) == 3


class Failing(Exception):
    pass


def failing(spec: Any, error: BaseException) -> Recording:
    """Return a recording of which only 300 steps can be read."""

    def read() -> Iterator[Episode]:
        yield from make_episodes(spec, [150, 150])
        raise error

    return Recording(Path("failing"), spec, read)


@pytest.mark.parametrize("error", [DataError("Damaged."), KeyboardInterrupt(), OSError(5, "Input/output error")])
def test_failed_import_leaves_nothing(error: BaseException, tmp_path: Path) -> None:
    with pytest.raises((ReverieError, KeyboardInterrupt)):
        import_episodes(failing(POLE, error), tmp_path / "data")
    assert not [*tmp_path.iterdir()]


def test_failed_import_leaves_existing_data_as_it_was(tmp_path: Path) -> None:
    episodes = make_episodes(POLE)
    data = store(tmp_path / "data", POLE, episodes)
    with pytest.raises(Failing):
        import_episodes(failing(POLE, Failing()), data)
    assert_same(stored(data), episodes)
    with closing(sqlite3.connect(data / "replay.db")) as database:
        assert database.execute("SELECT count(*) FROM steps").fetchone() == (sum(len(e["reward"]) for e in episodes),)


def test_killed_import_into_existing_data_is_not_seen(tmp_path: Path) -> None:
    episodes = make_episodes(POLE)
    data = store(tmp_path / "data", POLE, episodes)
    replay = ReplayBuffer(data, POLE.step)
    for episode in make_episodes(POLE, [600]):
        for t in range(601):
            replay.add({key: rows[t : t + 1] for key, rows in episode.items()})
    replay._database.close()  # without a commit, as where the process ends
    assert_same(stored(data), episodes)


@pytest.mark.parametrize("format", ["npz", "minari", "vd4rl", "folder"])
def test_failed_export_leaves_nothing(format: str, tmp_path: Path) -> None:
    for package in {"minari": ["minari"], "vd4rl": ["h5py"]}.get(format, []):
        pytest.importorskip(package, reason=f"{package} is not installed (pip install 'reverie[data]').")
    with pytest.raises(DataError):
        export_episodes(failing(PICTURES, DataError("Damaged.")), tmp_path / "out", format)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "words, reason",
    [
        (("export", "data", "data"), "exists already"),
        (("export", "data", "out", "--format", "npy"), "There is no format 'npy'; did you mean npz?"),
        (("export", "data", "out", "--format", "replay"), "only read"),
        (("import", "gone", "out"), "There is nothing at gone"),
        (("import", "empty", "out"), "is in none of the formats"),
        (("import", "empty", "out", "--format", "npz"), "There is no episode"),
        (("import", "empty", "out", "--format", "vd4rl"), "There is no file"),
        (("inspect", "empty", "--format", "replay"), "There is no replay"),
        (("inspect", "data", "--sheet", "sheet.png"), "has no images"),
    ],
)
def test_mistakes_are_one_sentence(
    words: tuple[str, ...], reason: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("h5py", reason="h5py is not installed (pip install 'reverie[data]').")
    store(tmp_path / "data", POLE, make_episodes(POLE))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 1
    assert reason in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "empty"]


@pytest.mark.parametrize("name", ["pictures", "pole", "arm"])
def test_database_by_itself_says_what_a_step_holds(name: str, tmp_path: Path) -> None:
    episodes = make_episodes(SPECS[name])
    store(tmp_path / "data", SPECS[name], episodes)
    (tmp_path / "data" / "replay.db").rename(tmp_path / "alone.db")
    recording = open_recording(tmp_path / "alone.db")
    assert recording.spec == SPECS[name]
    assert_same([*recording], episodes)


def test_changed_spaces_are_refused(tmp_path: Path, capsys: Any) -> None:
    data = store(tmp_path / "data", POLE, make_episodes(POLE))
    text = (data / "spaces.json").read_text()
    (data / "spaces.json").write_text(text.replace('"n": 2', '"n": 3'))
    assert run("inspect", data) == 1
    assert "spaces.json does not have its checksum" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["../../escaped", "/tmp/escaped", "a//b", "x" * 200])
def test_database_with_a_path_as_key_is_refused(key: str, tmp_path: Path, capsys: Any) -> None:
    [episode] = make_episodes(POLE, [3])
    steps = {key: POLE.step["vector"], **{name: spec for name, spec in POLE.step.items() if name != "vector"}}
    rows = {key: episode.pop("vector"), **episode}
    with ReplayBuffer(tmp_path / "bad.db", steps) as replay:
        for t in range(4):
            replay.add({name: values[t : t + 1] for name, values in rows.items()})
    assert run("export", tmp_path / "bad.db", tmp_path / "out", "--format", "folder") == 1
    assert "no name of an observation" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.db"]


def test_damaged_step_is_refused(tmp_path: Path, capsys: Any) -> None:
    data = store(tmp_path / "data", POLE, make_episodes(POLE))
    with closing(sqlite3.connect(data / "replay.db")) as database, database:
        database.execute("UPDATE steps SET data = zeroblob(length(data)) WHERE id = 2")
    assert run("export", data, tmp_path / "out") == 1
    assert "step 2 of episode 0 is not what was stored" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "key, values",
    [
        ("reward", np.array([0, np.nan, 0, 0], np.float32)),
        ("action", np.ones((4, 2), np.float32)),
        ("is_first", np.array([True, False, True, False])),
        ("is_terminal", np.array([False, True, False, False])),
    ],
)
def test_database_with_impossible_steps_is_refused(key: str, values: Any, tmp_path: Path, capsys: Any) -> None:
    [episode] = make_episodes(POLE, [3])
    episode["is_last"][:] = False
    data = store(tmp_path / "data", POLE, make_episodes(POLE))
    with ReplayBuffer(data, POLE.step) as replay:
        for t in range(4):
            row = {name: rows[t : t + 1] for name, rows in {**episode, key: values}.items()}
            replay.add({**row, "is_first": np.array([t == 0])} if key != "is_first" else row)
        replay.truncate_episodes()
    expected = 0 if key == "is_first" else 1  # the replay itself begins an episode there
    assert run("export", data, tmp_path / "out") == expected
    assert ("Nothing was done" in capsys.readouterr().err) == bool(expected)


def test_json_of_import_and_export(tmp_path: Path, capsys: Any) -> None:
    store(tmp_path / "data", POLE, make_episodes(POLE, (5, 4)))
    run("export", tmp_path / "data", tmp_path / "npz", "--json")
    run("import", tmp_path / "npz", tmp_path / "back", "--json")
    for line, name in zip(capsys.readouterr().out.splitlines(), ("npz", "back"), strict=True):
        assert json.loads(line) == {"path": str(tmp_path / name), "episodes": 2, "steps": 9, "notes": []}
