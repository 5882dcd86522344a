"""Damaged and hostile replay files: nothing wrong is returned as data, and every error is one sentence."""

import json
import shutil
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.config import ReplayConfig
from reverie.errors import ReplayError
from reverie.replay import ReplayBuffer, ReplayReader, repair, verify
from tests.helpers.numbered_rows import EPISODE, SPECS, row
from tests.helpers.untrusted_files import HOSTILE, NUMBERS, little_memory, spoiled

CONFIG = ReplayConfig(capacity=4096, batch_size=16, batch_length=4, fsync_interval=0)
ENVS = 2
STEPS = EPISODE * 40 + 3


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Two environments of 40 episodes and a running one each; the last commit."""
    path = tmp_path_factory.mktemp("replay") / "replay.db"
    replay = ReplayBuffer(path, SPECS, CONFIG, ENVS)
    for number in range(STEPS):
        replay.add(row(number, ENVS))
        if number == STEPS // 2:
            replay.commit()
    commit = replay.commit()
    replay.close()
    return path, commit


@pytest.fixture
def path(recorded: tuple[Path, Any], tmp_path: Path) -> Path:
    return Path(shutil.copy(recorded[0], tmp_path / "replay.db"))


def change(path: Path, sql: str, *values: Any) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(sql, values)


def all_rows(path: Path) -> list[list[float]]:
    with ReplayReader(path, SPECS) as reader:
        return [
            [number for part in reader.steps(episode) for number in part["vector"][:, 0].tolist()]
            for episode in reader.episodes()
        ]


def use(path: Path, commit: Any) -> None:
    """Do with a replay all that programs do."""
    with ReplayReader(path, SPECS) as reader:
        reader.windows(np.random.default_rng(0), 4, 10)
        reader.endings(np.random.default_rng(0), 4, 10)
        reader.digest()
    replay = ReplayBuffer(path, SPECS, CONFIG, ENVS)
    try:
        replay.check(commit)
        replay.rewind(commit)
        replay.recover_uncommitted()
        replay.sample(np.random.default_rng(0))
        replay.add({**row(0, ENVS), "is_first": np.ones(ENVS, bool)})
    finally:
        replay.close()


SWAP = "UPDATE steps SET (data, crc) = (SELECT data, crc FROM steps AS other WHERE other.id = 3) WHERE id = 2"
CHANGES: dict[str, Callable[[Path], None]] = {
    "a changed step": lambda path: change(path, "UPDATE steps SET data = zeroblob(length(data)) WHERE id = 2"),
    "a shortened step": lambda path: change(path, "UPDATE steps SET data = substr(data, 2) WHERE id = 2"),
    "a step of text": lambda path: change(path, "UPDATE steps SET data = 'text' WHERE id = 2"),
    "a changed checksum": lambda path: change(path, "UPDATE steps SET crc = crc + 1 WHERE id = 2"),
    "another step in its place": lambda path: change(path, SWAP),
    "a missing step": lambda path: change(path, "DELETE FROM steps WHERE id = 2"),
    "a missing first step": lambda path: change(path, "DELETE FROM steps WHERE id = 0"),
    "a missing last step": lambda path: change(path, "DELETE FROM steps WHERE id = ?", EPISODE - 1),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_changed_steps_are_found_everywhere_and_repaired(path: Path, recorded: tuple[Path, Any], kind: str) -> None:
    before = all_rows(path)
    CHANGES[kind](path)
    health = verify(path, SPECS, [recorded[1]])
    assert health.lost == {0: EPISODE} and health.is_repairable
    assert "of episode 0 is not what was stored" in health.damage[0]
    words = r"is damaged \(step \d of episode 0 is not what was stored\)\. Its steps cannot be used\. Type `reverie"
    with ReplayReader(path, SPECS) as reader, pytest.raises(ReplayError, match=words):
        reader.digest()
    replay = ReplayBuffer(path, SPECS, CONFIG, ENVS)
    with pytest.raises(ReplayError, match=words):
        replay.check(recorded[1])
    replay.close()
    assert repair(path, SPECS, [recorded[1]]) == EPISODE
    assert not verify(path, SPECS, [recorded[1]]).damage
    assert all_rows(path) == before[1:]
    assert [file.name for file in path.parent.iterdir()] == ["replay.db"]
    replay = ReplayBuffer(path, SPECS, CONFIG, ENVS)
    replay.check(recorded[1])
    assert not replay.rewind(recorded[1])  # Less is there than the checkpoint counted.
    assert replay.num_steps == STEPS * ENVS - EPISODE
    replay.add(row(STEPS, ENVS))
    commit = replay.commit()
    replay.close()
    replay = ReplayBuffer(path, SPECS, CONFIG, ENVS)
    replay.check(commit)
    assert replay.rewind(commit)
    replay.close()


def test_repair_drops_a_running_episode_and_training_continues_in_it(path: Path, recorded: tuple[Path, Any]) -> None:
    running = recorded[1]["envs"][1][0]
    change(path, "UPDATE steps SET crc = 0 WHERE id = ?", (running << 24) + 1)
    assert repair(path, SPECS, [recorded[1]]) == 3
    for number in range(2):  # The first process is killed.
        replay = ReplayBuffer(path, SPECS, CONFIG, ENVS)
        replay.check(recorded[1])
        assert not replay.rewind(recorded[1]) and replay.open_steps(1) == 3
        assert replay.num_steps == STEPS * ENVS - 3
        replay.add(row(STEPS, ENVS))
        if not number:
            shutil.copytree(path.parent, path.parent / "killed")
            replay.close()
            path = path.parent / "killed" / "replay.db"
    before, added = replay.latest_episode(1, 2)
    assert before["vector"][0, 0] == 1000 + STEPS - 4 and added["vector"][0, 0] == 1000 + STEPS
    assert before["is_last"][0] and added["is_first"][0]  # No state is carried over the gap.
    commit = replay.commit()
    assert replay.rewind(commit) and replay.open_steps(1) == 4
    replay.close()


def test_repair_of_an_episode_that_finished_after_the_checkpoint_keeps_it_usable(tmp_path: Path) -> None:
    replay = ReplayBuffer(tmp_path / "replay.db", SPECS, CONFIG, 1)
    replay.transaction_steps = 1
    for number in range(2 * EPISODE):
        replay.add(row(number))
        if number == EPISODE + 2:
            commit = replay.commit()
    shutil.copytree(tmp_path, tmp_path / "killed")
    path = tmp_path / "killed" / "replay.db"
    replay.close()
    change(path, "UPDATE steps SET crc = 0 WHERE id = ?", (1 << 24) + 1)
    assert repair(path, SPECS, [commit]) == EPISODE
    replay = ReplayBuffer(path, SPECS, CONFIG, 1)
    replay.check(commit)
    assert not replay.rewind(commit) and replay.num_steps == EPISODE
    assert replay.recover_uncommitted() == (0, 0)
    replay.add(row(EPISODE + 3))
    assert replay.rewind(replay.commit())
    replay.close()


@pytest.mark.parametrize("table", ["episodes", "meta"])
def test_damage_beside_the_steps_is_found_and_not_repaired(path: Path, table: str) -> None:
    column = {"episodes": "length", "meta": "value"}[table]
    change(path, f"UPDATE {table} SET {column} = 3")
    health = verify(path, SPECS)
    assert not health.is_repairable and "cannot be used" in health.damage[0]
    for action in (lambda: all_rows(path), lambda: repair(path, SPECS), lambda: ReplayBuffer(path, SPECS, CONFIG, 2)):
        with pytest.raises(ReplayError, match="is damaged"):
            action()


def test_missing_episodes_are_found(path: Path) -> None:
    change(path, "DELETE FROM episodes WHERE id = 7")
    health = verify(path, SPECS)
    assert not health.is_repairable and "episodes of a checkpoint are missing" in health.damage[0]
    with pytest.raises(ReplayError, match="episodes of a checkpoint are missing"):
        ReplayBuffer(path, SPECS, CONFIG, ENVS)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TRIGGER t AFTER INSERT ON steps BEGIN DELETE FROM steps; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE INDEX i ON steps(crc)",
        "ALTER TABLE steps ADD COLUMN more",
        "DROP TABLE episodes",
    ],
)
def test_other_tables_are_refused(path: Path, sql: str) -> None:
    change(path, sql)
    assert "is no replay of this version" in verify(path, SPECS).damage[0]
    with pytest.raises(ReplayError, match="is no replay of this version"):
        ReplayBuffer(path, SPECS, CONFIG, ENVS)


def test_other_files_are_refused(path: Path) -> None:
    for name in ("user_version", "application_id"):
        change(path, f"PRAGMA {name} = 7")
        with pytest.raises(ReplayError, match="is no replay of this version of reverie"):
            ReplayBuffer(path, SPECS, CONFIG, ENVS)
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(ReplayError, match=r"is damaged \(file is not a database\)"):
        ReplayBuffer(path, SPECS, CONFIG, ENVS)


def _places(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield places in the file, and what is written there."""
    size, rng = path.stat().st_size, np.random.default_rng(0)
    for number in range(60):
        position = int(rng.integers(size)) if number % 2 else int(rng.integers(size >> 16)) * 65536 + number
        yield position, rng.bytes([1, 3, 64, 4096][number % 4])


def test_damaged_pages_never_give_wrong_steps(recorded: tuple[Path, Any], tmp_path: Path) -> None:
    expected, path = all_rows(recorded[0]), tmp_path / "replay.db"
    outcomes = set()
    for position, data in _places(recorded[0]):
        shutil.copy(recorded[0], path)
        with path.open("r+b") as file:
            file.seek(position)
            file.write(data)
        damage = verify(path, SPECS, [recorded[1]]).damage
        try:
            assert all_rows(path) == expected
            outcomes.add("found in a part that is not read" if damage else "no effect")
        except ReplayError:
            assert damage
            outcomes.add("refused")
    assert {"refused", "no effect"} <= outcomes


@HOSTILE
@given(data=st.data())
def test_made_up_commits_and_episodes(recorded: tuple[Path, Any], tmp_path: Path, data: st.DataObject) -> None:
    """With right checksums."""
    path, commit = Path(shutil.copy(recorded[0], tmp_path / "replay.db")), recorded[1]
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    kind = data.draw(st.sampled_from(["commits", "steps", "episodes", "commit"]))
    with closing(sqlite3.connect(path)) as database, database:
        if kind == "commit":
            commit = data.draw(spoiled(commit))
        elif kind == "episodes":
            [*values] = database.execute("SELECT id, env, length, finished FROM episodes WHERE id = 5").fetchone()
            values[data.draw(st.integers(1, 3))] = data.draw(
                st.one_of(st.none(), st.text(max_size=3), NUMBERS.filter(lambda number: abs(number) < 1 << 63))
            )
            if None in values[1:3]:
                return
            crc = zlib.crc32(repr(tuple(values[1:])).encode(), zlib.crc32(b"5"))
            database.execute("REPLACE INTO episodes VALUES(?, ?, ?, ?, ?)", (*values, crc))
        else:
            [(value,)] = database.execute("SELECT value FROM meta WHERE key = ?", (kind,))
            try:
                text = json.dumps(data.draw(spoiled(json.loads(value))))
            except (ValueError, TypeError):
                return
            crc = zlib.crc32(text.encode(), zlib.crc32(repr(kind).encode()))
            database.execute("REPLACE INTO meta VALUES(?, ?, ?)", (kind, text, crc))
    with little_memory():
        for action in (use, lambda path, commit: verify(path, SPECS, [commit]), lambda path, _: repair(path, SPECS)):
            try:
                action(path, commit)
            except ReplayError as error:
                assert len(str(error)) < 2000
