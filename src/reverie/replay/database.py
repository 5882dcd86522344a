"""The SQLite file of a replay: tables, checksums, transactions, and one sentence for each error."""

import json
import secrets
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from reverie.errors import ReplayError
from reverie.replay.index import MAX_LENGTH, STEP_BITS, Commit, Episode, is_episode
from reverie.shell import command_line
from reverie.specs import ArraySpec

APPLICATION_ID = 0x52564552
"""Marks the file as a replay, where `file` and SQLite look for it."""
VERSION = 1
_PAGE_SIZE = 65536
_ROW_OVERHEAD = 24
SCHEMA = {
    "meta": "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID",
    "episodes": "CREATE TABLE episodes(id INTEGER PRIMARY KEY, env INTEGER NOT NULL, start INTEGER NOT NULL, "
    "length INTEGER NOT NULL, finished INTEGER, crc INTEGER NOT NULL)",
    "steps": "CREATE TABLE steps(id INTEGER PRIMARY KEY, data BLOB NOT NULL, crc INTEGER NOT NULL)",
}
_WAL_PAGES = 4096  # 256 MiB; a writer that outruns `Syncer` writes them into the database itself
_SETTINGS: dict[str, object] = {
    "trusted_schema": "OFF",
    "cell_size_check": "ON",
    "secure_delete": "OFF",
    "wal_autocheckpoint": _WAL_PAGES,
}
_CREATION: dict[str, object] = {
    "page_size": _PAGE_SIZE,
    "auto_vacuum": "NONE",
    "application_id": APPLICATION_ID,
    "user_version": VERSION,
}
_MAX_META = 1 << 24  # bytes of one value
_READ = "SELECT id, data, crc FROM steps WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"


def delete_replay(path: Path) -> None:
    """Delete the file of a replay and its write-ahead log, if they exist.

    Raises:
        OSError: if they cannot be deleted.
    """
    for end in ("-wal", "-shm", ""):
        path.with_name(path.name + end).unlink(missing_ok=True)


def has_steps(path: Path) -> bool:
    """Return whether a replay holds any step, or is damaged."""
    if not path.exists():
        return False
    try:
        with closing(_connect(path, read_only=True, max_bytes=_MAX_META)) as connection:
            return connection.execute("SELECT 1 FROM steps LIMIT 1").fetchone() is not None
    except sqlite3.Error:
        return True


def step_dtype(specs: Mapping[str, ArraySpec]) -> np.dtype[np.void]:
    """Return the structured dtype of the bytes of one step.

    Raises:
        ReplayError: if an entry is not made of numbers.
    """
    wrong = sorted({spec.dtype for spec in specs.values() if np.dtype(spec.dtype).kind not in "biuf"})
    if wrong:
        raise ReplayError(f"The replay cannot store arrays of dtype {', '.join(wrong)}.")
    return np.dtype([(key, spec.dtype, spec.shape) for key, spec in specs.items()])


def checksum(step: int, data: bytes) -> int:
    """Return the CRC-32 of a step's id and bytes."""
    return zlib.crc32(data, zlib.crc32(step.to_bytes(8, "little")))


def _text_checksum(*values: object) -> int:
    return zlib.crc32(json.dumps(values).encode())


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Turn an error of SQLite or of the operating system into one sentence.

    Raises:
        ReplayError: instead of it.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            text = f"The disk is full. {path} cannot grow, but all earlier steps are intact. " + (
                "Free some space or lower replay.capacity, then resume."
            )
        elif code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG):
            text = damaged(path, str(error))
        else:
            text = f"{path} cannot be read or written ({error}). All earlier steps are intact. " + (
                "Check the disk and its free space, then resume."
            )
        raise ReplayError(text) from error


def damaged(path: Path, what: str) -> str:
    """Return the sentence about a damaged replay."""
    return f"{path} is damaged ({what}). Its steps cannot be used. Type `{command_line('verify', path.parent)}`."


class Database:
    """A connection to the file of a replay.

    Args:
        path: the file; created unless `read_only`.
        specs: shape and dtype of each entry of a step, as from `EnvSpec.step`.
        read_only: change nothing, not even the write-ahead log; another process may be writing. All reads see the file
            as it was at the first one.

    Raises:
        ReplayError: if there is no replay, or one of other steps, or something else.
    """

    def __init__(self, path: Path, specs: Mapping[str, ArraySpec], read_only: bool = False) -> None:
        self.path = path
        given = [[key, spec.dtype, list(spec.shape)] for key, spec in specs.items()]
        self.dtype = step_dtype(specs)
        if read_only and not path.is_file():
            raise ReplayError(f"There is no replay at {path}. Give the folder of a run that still has its own.")
        with sqlite_errors(path):
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _connect(path, read_only, max(_MAX_META, 2 * self.dtype.itemsize))
            try:
                if read_only:
                    self.execute("BEGIN")
                elif self._is_empty():
                    self._create(given)
                self._check_format()
                stored = self._meta("steps")
                self._check_steps(stored, given)
                self.dtype = np.dtype([(key, dtype, tuple(shape)) for key, dtype, shape in stored])
            except BaseException:
                self._connection.close()
                raise

    def execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        return self._connection.execute(sql, values)

    @contextmanager
    def transaction(self, is_durable: bool = False) -> Iterator[None]:
        """Write all or nothing.

        Args:
            is_durable: have it on the disk when the block ends; else it is there after the next checkpoint of the
                write-ahead log, and before that only a power cut takes it.

        Raises:
            ReplayError: then nothing was written.
        """
        with sqlite_errors(self.path):
            self.execute(f"PRAGMA synchronous={'FULL' if is_durable else 'NORMAL'}")
            self.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite has done so by itself after some errors.
                    self.execute("ROLLBACK")
                raise

    def read(self, first: int, stop: int, most: int = -1, is_lenient: bool = False) -> list[bytes]:
        """Return the bytes of the steps from `first` on that are stored without a gap.

        Args:
            first: id of a step.
            stop: one past the id of the last.
            most: how many at most; -1 for all.
            is_lenient: end before a damaged step.

        Raises:
            ReplayError: if one of them is damaged.
        """
        found: list[bytes] = []
        with sqlite_errors(self.path):
            for step, data, crc in self.execute(_READ, (first, stop, most)):
                if step != first + len(found):
                    break
                if type(data) is not bytes or len(data) != self.dtype.itemsize or checksum(step, data) != crc:
                    if is_lenient:
                        break
                    raise self.damaged_step(step)
                found.append(data)
        return found

    def damaged_step(self, step: int) -> ReplayError:
        """Return the error about a step that is not what was stored, or is missing."""
        episode, t = divmod(step, MAX_LENGTH)
        return ReplayError(damaged(self.path, f"step {t} of episode {episode} is not what was stored"))

    def first_step(self, episode: int) -> int | None:
        """Return the number of an episode's first stored step; None if there is none."""
        first = episode << STEP_BITS
        with sqlite_errors(self.path):
            found = self.execute("SELECT min(id) FROM steps WHERE id >= ? AND id < ?", (first, first + MAX_LENGTH))
            lowest = found.fetchone()[0]
        return None if lowest is None else lowest - first

    def insert_steps(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Store steps by id, inside a transaction."""
        checked = ((step, data, checksum(step, data)) for step, data in rows)
        self._connection.executemany("INSERT INTO steps VALUES(?, ?, ?)", checked)

    def delete_steps(self, episode: int, start: int = 0, stop: int = MAX_LENGTH) -> None:
        """Delete steps `start` to `stop` - 1 of an episode, inside a transaction."""
        first = episode << STEP_BITS
        self.execute("DELETE FROM steps WHERE id >= ? AND id < ?", (first + start, first + stop))

    def write_episodes(self, episodes: Iterable[Episode]) -> None:
        """Store episodes, inside a transaction; the length of a running one is 0."""
        rows = []
        for each in episodes:
            length = each.length if each.finished is not None else 0
            row = (each.id, each.env, min(each.start, length), length, each.finished)
            rows.append((*row, _text_checksum(*row)))
        self._connection.executemany("REPLACE INTO episodes VALUES(?, ?, ?, ?, ?, ?)", rows)

    def delete_episode(self, episode: int) -> None:
        """Delete an episode and its steps, inside a transaction."""
        self.delete_steps(episode)
        self.execute("DELETE FROM episodes WHERE id = ?", (episode,))

    def episodes(self) -> Iterator[Episode]:
        """Yield all stored episodes by id.

        Raises:
            ReplayError: if one is damaged.
        """
        with sqlite_errors(self.path):
            for *row, crc in self.execute("SELECT id, env, start, length, finished, crc FROM episodes ORDER BY id"):
                if not is_episode(tuple(row)) or _text_checksum(*row) != crc:
                    raise ReplayError(damaged(self.path, f"episode {row[0]} is not what was stored"))
                yield Episode(*row)

    @property
    def commits(self) -> list[Commit]:
        """The last two commits, oldest first; the creation of the replay counts as one."""
        with sqlite_errors(self.path):
            found = self._meta("commits")
        if not isinstance(found, list) or not found:
            raise ReplayError(damaged(self.path, "it holds no commit"))
        return [Commit.from_json(each) for each in found]

    def write_commits(self, commits: Sequence[Commit]) -> None:
        """Replace the commits, inside a transaction."""
        self._write_meta("commits", [each.to_json() for each in commits])

    def to_disk(self) -> None:
        """Write the write-ahead log into the database and force both onto the disk, as far as no reader needs it."""
        with sqlite_errors(self.path):
            self.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def integrity(self) -> list[str]:
        """Return what SQLite finds wrong with the file's pages, at most 20 lines."""
        try:
            lines = [str(line) for (line,) in self.execute("PRAGMA integrity_check(20)")]
        except sqlite3.Error as error:
            return [str(error)]
        return [] if lines == ["ok"] else lines

    def close(self) -> None:
        """Close the connection; the last one to do so leaves a single file."""
        with sqlite_errors(self.path):
            self._connection.close()

    def _is_empty(self) -> bool:
        """Return whether the file is new, or its creation was interrupted."""
        (application,) = self.execute("PRAGMA application_id").fetchone()
        return application in (0, APPLICATION_ID) and not self.execute("SELECT 1 FROM sqlite_master").fetchone()

    def _create(self, steps: list[Any]) -> None:
        for name, value in _CREATION.items():
            self.execute(f"PRAGMA {name}={value}")
        self.execute("PRAGMA journal_mode=WAL")
        with self.transaction(is_durable=True):
            for statement in SCHEMA.values():
                self.execute(statement)
            self._write_meta("steps", steps)
            self.write_commits([Commit(secrets.randbits(56), 0, 0, 0, 0, 0, ())])

    def _check_format(self) -> None:
        """Refuse what is no replay before any of its tables is read: a schema can hold programs."""
        (application,), (version,) = (
            self.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
        )
        if application != APPLICATION_ID:
            raise ReplayError(f"{self.path} is no replay of reverie. It was not read. Choose another folder.")
        if version != VERSION:
            raise ReplayError(
                f"{self.path} has format {version}. This program reads {VERSION}. Use the reverie that wrote it."
            )
        found = self.execute("SELECT name, sql FROM sqlite_master LIMIT 9").fetchall()
        if dict(found) != SCHEMA or len(found) != len(SCHEMA):
            raise ReplayError(damaged(self.path, "its tables are not those of a replay"))

    def _check_steps(self, stored: Any, given: list[Any]) -> None:
        try:
            there, here = ({key: [dtype, shape] for key, dtype, shape in steps} for steps in (stored, given))
            differing = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
            if len(stored) != len(there):
                raise ValueError("an entry is there twice")
        except (TypeError, ValueError) as error:
            raise ReplayError(damaged(self.path, "it does not say what a step is")) from error
        if differing:
            text = "; ".join(f"{key}: {_brief(there, key)} there, {_brief(here, key)} here" for key in differing)
            raise ReplayError(
                f"{self.path} holds steps of another environment ({text}). Choose another folder, or that environment."
            )

    def _meta(self, key: str) -> Any:
        found = self.execute("SELECT value, crc FROM meta WHERE key = ?", (key,)).fetchone()
        if found is None or type(found[0]) is not str or _text_checksum(key, found[0]) != found[1]:
            raise ReplayError(damaged(self.path, f"its entry '{key}' is not what was stored"))
        try:
            return json.loads(found[0])
        except (ValueError, RecursionError) as error:
            raise ReplayError(damaged(self.path, f"its entry '{key}' is not JSON")) from error

    def _write_meta(self, key: str, value: Any) -> None:
        text = json.dumps(value)
        self.execute("REPLACE INTO meta VALUES(?, ?, ?)", (key, text, _text_checksum(key, text)))


def _brief(steps: Mapping[str, Any], key: str) -> str:
    return " ".join(map(str, steps.get(key, ["absent"])))[:80]


def _connect(path: Path, read_only: bool, max_bytes: int) -> sqlite3.Connection:
    # Without a write-ahead log nobody writes. Such a file is read without locks, which would leave two files behind.
    is_alone = read_only and not path.with_name(path.name + "-wal").exists()
    mode = ("mode=ro&immutable=1" if is_alone else "mode=ro") if read_only else "mode=rwc"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max_bytes)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        for name, value in _SETTINGS.items():
            connection.execute(f"PRAGMA {name}={value}")
    except BaseException:
        connection.close()
        raise
    return connection


def largest_size(specs: Mapping[str, ArraySpec], num_steps: int) -> int:
    """Return the most bytes that a replay of so many steps takes on the disk, its write-ahead log included."""
    width = step_dtype(specs).itemsize + _ROW_OVERHEAD
    on_pages = max(width, _PAGE_SIZE // max(_PAGE_SIZE // width, 1))  # A page holds whole steps.
    pages = int(1.15 * on_pages * num_steps) + 8 * _PAGE_SIZE  # Episodes that grow at the same time leave gaps.
    return pages + min(pages, _WAL_PAGES * _PAGE_SIZE)
