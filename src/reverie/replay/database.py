"""The SQLite file of a replay: tables, checksums, transactions, and one sentence for each error."""

import json
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from reverie.errors import ReplayError
from reverie.replay.index import STEP_BITS, Commit, Episode, EpisodeIndex, are_numbers
from reverie.shell import command_line
from reverie.specs import STEP_KEYS, ArraySpec

REPLAY = "replay.db"
"""Name of the file in a run's folder."""
_APPLICATION_ID, _VERSION = 0x52564552, 2
_PAGE_SIZE = 65536
_WAL_PAGES = 1024  # 64 MiB, then SQLite writes them into the database
_CACHE_PAGES = 512  # 32 MiB: the pages of some seven batches of Atari
_MAX_LENGTH = 1 << 27  # bytes of one value
_ROW_OVERHEAD = 24
_SCHEMA = {
    "meta": "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID",
    "episodes": "CREATE TABLE episodes(id INTEGER PRIMARY KEY, env INTEGER NOT NULL, length INTEGER NOT NULL, "
    "finished INTEGER, crc INTEGER NOT NULL)",
    "steps": "CREATE TABLE steps(id INTEGER PRIMARY KEY, data BLOB NOT NULL, crc INTEGER NOT NULL)",
}
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG)


def step_dtype(specs: Mapping[str, ArraySpec]) -> np.dtype[np.void]:
    """Return the structured dtype of the bytes of one step: its entries by name."""
    wrong = sorted({spec.dtype for spec in specs.values() if np.dtype(spec.dtype).kind not in "biuf"})
    if wrong:
        raise ReplayError(f"The replay cannot store arrays of dtype {', '.join(wrong)}.")
    return np.dtype([(key, spec.dtype, spec.shape) for key, spec in sorted(specs.items())])


def largest_size(specs: Mapping[str, ArraySpec], num_steps: int) -> int:
    """Return the most bytes that a replay of so many steps takes on the disk, its write-ahead log included."""
    width = step_dtype(specs).itemsize + _ROW_OVERHEAD
    on_pages = max(width, _PAGE_SIZE // max(_PAGE_SIZE // width, 1))  # A page holds whole steps.
    pages = int(1.15 * on_pages * num_steps) + 8 * _PAGE_SIZE  # Episodes that grow at the same time leave gaps.
    return pages + min(pages, _WAL_PAGES * _PAGE_SIZE)


def has_steps(path: Path) -> bool:
    """Return whether a replay holds any step, or is damaged; one whose creation was cut short has no table yet."""
    if not path.exists():
        return False
    with suppress(sqlite3.Error), closing(_connect(path, read_only=True)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            return False
        return connection.execute("SELECT 1 FROM steps LIMIT 1").fetchone() is not None
    return True


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Turn an error of SQLite or of the operating system into a ReplayError of one sentence."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if _code(error) in _DAMAGE:
            raise damaged(path, str(error)) from error
        if _code(error) == sqlite3.SQLITE_FULL:
            raise ReplayError(
                f"The disk is full. {path} cannot grow, but all earlier steps are intact. Free some space or lower "
                "replay.capacity, then resume."
            ) from error
        raise ReplayError(
            f"{path} cannot be read or written ({error}). All earlier steps are intact. Check the disk and its free "
            "space, then resume."
        ) from error


class Database:
    """A connection to the file of a replay, created if need be. Its methods raise a ReplayError where SQLite fails.

    With `read_only`, the file is seen as it is now, while another process may be writing; nothing is changed. Then
    `specs` may be None: a step is what the file says.
    """

    def __init__(self, path: Path, specs: Mapping[str, ArraySpec] | None, read_only: bool = False) -> None:
        self.path = path
        if read_only and not path.is_file():
            raise ReplayError(f"There is no replay at {path}. Give the folder of a run that still has its own.")
        with sqlite_errors(path):
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _connect(path, read_only)
        try:
            if read_only:
                self.execute("BEGIN")
                self._check_format()
            self.specs = dict(self._stored_specs() if specs is None else specs)
            self.dtype = step_dtype(self.specs)
            entries = [[key, spec.dtype, list(spec.shape)] for key, spec in sorted(self.specs.items())]
            if not read_only and not self.execute("SELECT 1 FROM sqlite_master"):
                self._create(entries)
            self._check_format()
            if (stored := self._meta("steps")) != entries:
                pairs = (stored, entries), (entries, stored)
                there, here = (str([each for each in one if each not in other])[:200] for one, other in pairs)
                what = f"{there} there, {here} here"
                raise ReplayError(f"{path} holds steps of another environment: {what}. Choose another folder.")
        except BaseException:
            self._connection.close()
            raise

    def execute(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Run one statement and return its rows."""
        with sqlite_errors(self.path):
            return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self, is_durable: bool = False) -> Iterator[None]:
        """Write all or nothing. A power cut takes nothing that precedes the end of a durable one."""
        self.execute(f"PRAGMA synchronous={'FULL' if is_durable else 'NORMAL'}")
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            with suppress(ReplayError):  # SQLite has done so by itself after some errors.
                self.execute("ROLLBACK")
            raise

    def read(self, episode: int, start: int, stop: int) -> list[bytes]:
        """Return the bytes of steps `start` to `stop` - 1 of an episode, all of which are intact."""
        found = list(self.intact_steps(episode, start, stop))
        if len(found) < stop - start:
            raise damaged(self.path, _not_stored(episode, start + len(found)))
        return found

    def damage(self, episode: Episode) -> str:
        """Return which step of an episode is missing or damaged; empty if all are intact."""
        num_intact = sum(1 for _ in self.intact_steps(episode.id, 0, episode.length))
        return _not_stored(episode.id, num_intact) if num_intact < episode.length else ""

    def intact_steps(self, episode: int, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes of steps `start` to `stop` - 1 of an episode, up to the first missing or damaged one."""
        first, size = (episode << STEP_BITS) + start, self.dtype.itemsize
        query = "SELECT id, data, crc FROM steps WHERE id >= ? AND id < ? ORDER BY id"
        with sqlite_errors(self.path):
            try:
                rows = self._connection.execute(query, (first, first + stop - start))
                for expected, (step, data, crc) in enumerate(rows, first):
                    if step != expected or type(data) is not bytes or len(data) != size:
                        return
                    if crc32(data, crc32(b"%d" % step)) != crc:  # as `_checksum`; written out, since it is called often
                        return
                    yield data
            except sqlite3.Error as error:
                if _code(error) not in _DAMAGE:
                    raise

    def num_stored(self, episode: int) -> int:
        """Return the number of an episode's last stored step, plus one."""
        first, stop = episode << STEP_BITS, (episode + 1) << STEP_BITS
        [(last,)] = self.execute("SELECT max(id) FROM steps WHERE id >= ? AND id < ?", (first, stop))
        return 0 if last is None else last - first + 1

    def insert(self, steps: Iterable[tuple[int, bytes]]) -> None:
        """Store steps by id."""
        with sqlite_errors(self.path):
            rows = ((step, data, _checksum(step, data)) for step, data in steps)
            self._connection.executemany("INSERT INTO steps VALUES(?, ?, ?)", rows)

    def delete(self, episode: int, start: int = 0) -> None:
        """Delete an episode, or only its steps from `start` on."""
        limits = ((episode << STEP_BITS) + start, (episode + 1) << STEP_BITS)
        self.execute("DELETE FROM steps WHERE id >= ? AND id < ?", limits)
        if not start:
            self.execute("DELETE FROM episodes WHERE id = ?", (episode,))

    def write_episodes(self, episodes: Iterable[Episode]) -> None:
        """Store episodes; a running one without its length, which changes with each step."""
        for each in episodes:
            row = (each.env, each.length if each.finished is not None else 0, each.finished)
            crc = _checksum(each.id, repr(row).encode())
            self.execute("REPLACE INTO episodes VALUES(?, ?, ?, ?, ?)", (each.id, *row, crc))

    def episodes(self) -> dict[int, Episode]:
        """Return all stored episodes by id, in the order in which they finished; running ones are the last."""
        found = {}
        order = "finished IS NULL, finished, id"
        for number, *row, crc in self.execute(f"SELECT id, env, length, finished, crc FROM episodes ORDER BY {order}"):
            is_valid = are_numbers(number, *row[:2], 0 if row[2] is None else row[2])
            if not is_valid or _checksum(number, repr(tuple(row)).encode()) != crc:
                raise damaged(self.path, f"episode {number} is not what was stored")
            found[number] = Episode(number, *row)
        return found

    def commits(self) -> list[Commit]:
        """Return the last two commits, oldest first; the creation of the replay counts as one."""
        return [Commit.from_json(each) for each in self._meta("commits")]

    def write_commits(self, commits: Sequence[Commit]) -> None:
        """Replace the commits."""
        self._write_meta("commits", [asdict(each) for each in commits])

    def index(self, commit: Commit, num_envs: int = 0, capacity: int = 1 << 62, min_length: int = 1) -> EpisodeIndex:
        """Return the episodes of a commit, from which nothing is evicted yet."""
        stored = self.episodes()
        needed = range(max(commit.oldest, self.commits()[0].oldest), commit.num_finished)
        held = [each for each in stored.values() if each.finished in needed and each.id not in commit.running]
        if len(held) != len(needed) or any(each.env >= len(commit.envs) for each in held):
            raise damaged(self.path, "episodes of a checkpoint are missing")
        index = EpisodeIndex(max(num_envs, len(commit.envs)), capacity, min_length)
        for each in held:
            if each.length:  # else repair has removed its steps
                index.num_finished = each.finished or 0
                index.extend(index.begin(each.env, each.id), each.length)
                index.finish(each.env)
        for env, (number, length, since_reset) in enumerate(commit.envs):
            if length and number in stored and (stored[number].finished is None or stored[number].length):
                index.extend(index.begin(env, number), length)
            index.since_reset[env] = since_reset
        index.num_begun, index.num_finished = commit.num_begun, commit.num_finished
        index.changed.clear()
        return index

    def close(self) -> None:
        """Close the connection; the last one to do so leaves a single file."""
        with sqlite_errors(self.path):
            self._connection.close()

    def _create(self, steps: list[Any]) -> None:
        self.execute(f"PRAGMA page_size={_PAGE_SIZE}")
        self.execute("PRAGMA journal_mode=WAL")
        with self.transaction(is_durable=True):
            self.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            self.execute(f"PRAGMA user_version={_VERSION}")
            for statement in _SCHEMA.values():
                self.execute(statement)
            self._write_meta("steps", steps)
            self.write_commits([Commit(secrets.randbits(38), 0, 0, 0, 0, ())])

    def _check_format(self) -> None:
        # Before any table is read: a schema can hold programs.
        numbers = [self.execute(f"PRAGMA {name}") for name in ("application_id", "user_version")]
        schema = self.execute("SELECT name, sql FROM sqlite_master LIMIT 9")
        if numbers != [[(_APPLICATION_ID,)], [(_VERSION,)]] or sorted(schema, key=repr) != sorted(_SCHEMA.items()):
            raise ReplayError(
                f"{self.path} is no replay of this version of reverie. It was not read. Choose another folder."
            )

    def _stored_specs(self) -> dict[str, ArraySpec]:
        """Return shape and dtype of each entry of a step, as they were when the replay was created."""
        with suppress(TypeError, ValueError):
            entries = [(str(key), ArraySpec(tuple(shape), str(dtype))) for key, dtype, shape in self._meta("steps")]
            specs = dict(entries)
            is_valid = all(are_numbers(*spec.shape) for spec in specs.values()) and "action" in specs
            if is_valid and STEP_KEYS.items() <= specs.items() and step_dtype(specs).itemsize <= _MAX_LENGTH:
                return specs
        raise damaged(self.path, "its entry 'steps' does not describe a step")

    def _meta(self, key: str) -> list[Any]:
        found = self.execute("SELECT value, crc FROM meta WHERE key = ?", (key,))
        if found and type(found[0][0]) is str and _checksum(key, found[0][0].encode()) == found[0][1]:
            with suppress(ValueError, RecursionError):
                value = json.loads(found[0][0])
                if isinstance(value, list) and value:
                    return value
        raise damaged(self.path, f"its entry '{key}' is not what was stored")

    def _write_meta(self, key: str, value: list[Any]) -> None:
        text = json.dumps(value)
        self.execute("REPLACE INTO meta VALUES(?, ?, ?)", (key, text, _checksum(key, text.encode())))


def _connect(path: Path, read_only: bool) -> sqlite3.Connection:
    # Without a write-ahead log no process writes. The file is then read without locks, which would leave two files.
    is_alone = read_only and not path.with_name(path.name + "-wal").exists()
    mode = ("mode=ro&immutable=1" if is_alone else "mode=ro") if read_only else "mode=rwc"
    uri = f"{path.absolute().as_uri()}?{mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_LENGTH)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    sizes = f"wal_autocheckpoint={_WAL_PAGES}", f"cache_size={_CACHE_PAGES}"
    for setting in ("trusted_schema=OFF", "cell_size_check=ON", *sizes):
        connection.execute(f"PRAGMA {setting}")
    return connection


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _not_stored(episode: int, step: int) -> str:
    return f"step {step} of episode {episode} is not what was stored"


def damaged(path: Path, what: str) -> ReplayError:
    """Return an error that says what is damaged, and what to do."""
    command = command_line("verify", path.parent)
    return ReplayError(f"{path} is damaged ({what}). Its steps cannot be used. Type `{command}`.")


def _checksum(key: object, data: bytes) -> int:
    return crc32(data, crc32(repr(key).encode()))
