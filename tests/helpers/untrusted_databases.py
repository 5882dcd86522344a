"""Untrusted SQLite files in place of a replay: other schemas, values with valid checksums, and bytes."""

import json
import sqlite3
import struct
import zlib
from contextlib import closing, suppress
from pathlib import Path

from hypothesis import strategies as st

from tests.helpers.untrusted_files import NUMBERS, SCALARS, spoiled

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
HUGE = 20 << 20
"""Bytes of a value that is longer than any in a replay."""
SCHEMAS = (
    f"DROP TABLE steps; CREATE VIEW steps AS {ENDLESS} SELECT i AS id, x'00' AS data, 0 AS crc FROM n",
    "DROP TABLE steps; CREATE VIEW steps AS SELECT 1 AS id, zeroblob(900000000) AS data, 0 AS crc",
    f"DROP TABLE meta; CREATE VIEW meta AS {ENDLESS} SELECT i AS key, '[]' AS value, 0 AS crc FROM n",
    "DROP TABLE episodes; CREATE VIEW episodes AS SELECT * FROM steps",
    "DROP TABLE episodes; CREATE TABLE episodes(id INTEGER PRIMARY KEY, env AS (id), start AS (zeroblob(900000000)))",
    "DROP TABLE steps; CREATE TABLE steps(id INTEGER PRIMARY KEY, data AS (zeroblob(900000000)), crc AS (id))",
    "DROP TABLE steps; CREATE TABLE steps(id, data, crc)",
    "DROP TABLE steps; CREATE TABLE steps(id TEXT PRIMARY KEY, data BLOB, crc INTEGER) WITHOUT ROWID",
    "DROP TABLE steps",
    "DROP TABLE meta; DROP TABLE episodes; DROP TABLE steps",
    "ALTER TABLE steps ADD COLUMN more AS (zeroblob(900000000))",
    "ALTER TABLE episodes ADD COLUMN more DEFAULT 'x'",
    "CREATE TRIGGER t AFTER INSERT ON steps BEGIN DELETE FROM episodes; END",
    "CREATE TRIGGER t AFTER DELETE ON steps BEGIN INSERT INTO steps VALUES(old.id + 1, old.data, old.crc); END",
    "CREATE TRIGGER steps BEFORE UPDATE ON meta BEGIN SELECT load_extension('x'); END",
    "CREATE INDEX i ON steps(length(hex(data)))",
    "CREATE INDEX i ON episodes(env) WHERE abs(id) > 0",
    "CREATE TABLE more(a); INSERT INTO more VALUES(1)",
    "PRAGMA journal_mode = DELETE; PRAGMA page_size = 512; VACUUM",
    "PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = FULL; VACUUM",
    "PRAGMA application_id = 7",
    "PRAGMA application_id = 0; DROP TABLE meta; DROP TABLE episodes; DROP TABLE steps",
    "PRAGMA user_version = 2000000000",
    "UPDATE sqlite_master SET rootpage = 1 WHERE name = 'steps'",
    "UPDATE sqlite_master SET rootpage = 2147483647",
    "UPDATE sqlite_master SET rootpage = (SELECT sum(rootpage) FROM sqlite_master WHERE name IN ('steps', 'episodes')) "
    "- rootpage WHERE name IN ('steps', 'episodes')",
    "UPDATE sqlite_master SET rootpage = (SELECT min(rootpage) FROM sqlite_master)",
    "UPDATE sqlite_master SET type = 'view', rootpage = 0",
    "UPDATE sqlite_master SET sql = NULL WHERE name = 'meta'",
    "UPDATE sqlite_master SET sql = 'CREATE TABLE steps(id' WHERE name = 'steps'",
    "UPDATE sqlite_master SET sql = 'CREATE TABLE x AS SELECT load_extension(1)'",
    f"UPDATE sqlite_master SET sql = hex(zeroblob({HUGE}))",
    "INSERT INTO sqlite_master SELECT * FROM sqlite_master",
    "INSERT INTO sqlite_master SELECT 'table', 't' || id, 't' || id, 2, 'CREATE TABLE t' || id || '(a)' FROM steps",
)
"""Statements that change what the tables are."""
HEADER = {16: 2, **dict.fromkeys((18, 19, 20, 21), 1), **dict.fromkeys((24, 28, 32, 36, 40, 44, 52, 56, 60, 68, 92), 4)}
"""Fields of the file's header: offset, and bytes."""
STEPS = (
    [["image", "uint8", [1 << 40]]],
    [["image", "uint8", [1 << 20, 1 << 20, 1 << 20]]],
    [["image", "float64", [1 << 62]]],
    [["image", "O", [1]]],
    [["image", "U1000000000", []]],
    [["image", "uint8", [-1]]],
    [[f"key {number}", "uint8", []] for number in range(100_000)],
    [["a", "uint8", [1]], ["a", "uint8", [1]]],
    {"image": "uint8"},
    7,
    [],
)
"""Made up descriptions of a step."""


@st.composite
def hostile_databases(draw: st.DrawFn, path: Path) -> None:
    """Change a replay in place."""
    kind = draw(st.sampled_from((_schema, _meta, _meta, _episode, _step, _header, _pages, _random, _log)))
    kind(draw, path)


def _checksum(key: object, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(repr(key).encode()))


def _execute(path: Path, *statements: tuple[str, tuple[object, ...]]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        # A statement that SQLite itself refuses leaves the file as it was.
        with suppress(sqlite3.Error, OverflowError, UnicodeEncodeError):
            for statement, values in statements:
                connection.execute(statement, values)


def _schema(draw: st.DrawFn, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection, suppress(sqlite3.Error):
        connection.execute("PRAGMA writable_schema = ON")
        connection.executescript(draw(st.sampled_from(SCHEMAS)))


def _meta(draw: st.DrawFn, path: Path) -> None:
    key = draw(st.sampled_from(["steps", "commits"]))
    with closing(sqlite3.connect(path)) as connection:
        (text,) = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    made_up = [spoiled(json.loads(text)), st.sampled_from(STEPS)] if key == "steps" else [spoiled(json.loads(text))]
    if draw(st.integers(0, 5)):
        value = json.dumps(draw(st.one_of(made_up)))
    else:
        value = draw(st.one_of(SCALARS, st.sampled_from(["[" * 100_000, "9" * 10_000, "x" * HUGE])))
    crc = _checksum(key, value.encode(errors="replace")) if isinstance(value, str) else 0
    _execute(path, ("UPDATE meta SET value = ?, crc = ? WHERE key = ?", (value, crc, key)))


def _episode(draw: st.DrawFn, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT id, env, length, finished FROM episodes").fetchall()
    before = draw(st.sampled_from(rows))
    row = list(before)
    for _ in range(draw(st.integers(1, 3))):
        row[draw(st.integers(0, 3))] = draw(st.one_of(NUMBERS, SCALARS))
    delete = ("DELETE FROM episodes WHERE id = ?", (before[0],))
    insert = ("INSERT INTO episodes VALUES(?, ?, ?, ?, ?)", (*row, _checksum(row[0], repr(tuple(row[1:])).encode())))
    _execute(path, *([insert] if draw(st.booleans()) else [delete, insert]))


def _step(draw: st.DrawFn, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT id, data FROM steps").fetchall()
    step, data = draw(st.sampled_from(rows))
    step = draw(st.one_of(st.just(step), NUMBERS))
    data = draw(
        st.one_of(st.binary(min_size=len(data), max_size=len(data)), st.binary(), SCALARS, st.just(bytes(HUGE)))
    )
    crc = _checksum(step, data) if isinstance(data, bytes) else draw(NUMBERS)
    _execute(path, ("REPLACE INTO steps VALUES(?, ?, ?)", (step, data, crc)))


def _header(draw: st.DrawFn, path: Path) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(draw(st.integers(1, 3))):
        offset = draw(st.sampled_from(list(HEADER)))
        data[offset : offset + HEADER[offset]] = struct.pack(">Q", draw(NUMBERS) % (1 << 64))[-HEADER[offset] :]
    path.write_bytes(data)


def _pages(draw: st.DrawFn, path: Path) -> None:
    """Change the headers and cell pointers of pages, and entries of the list of free ones."""
    data = bytearray(path.read_bytes())
    page_size = 65536
    for _ in range(draw(st.integers(1, 20))):
        page = draw(st.integers(0, max(len(data) // page_size - 1, 0)))
        offset = page * page_size + draw(st.integers(0, 40)) + (100 if page == 0 else 0)
        data[offset] = draw(st.sampled_from([0, 1, 2, 5, 10, 13, 127, 128, 255]))
    if draw(st.booleans()):  # a list of free pages that holds used ones, or itself
        data[32:40] = struct.pack(">II", draw(st.integers(1, 9)), draw(st.integers(1, 1 << 31)))
    path.write_bytes(data)


def _random(draw: st.DrawFn, path: Path) -> None:
    """Random bytes after a valid header."""
    size = draw(st.integers(0, 1 << 17))
    path.write_bytes(path.read_bytes()[:100] + draw(st.randoms(use_true_random=False)).randbytes(size))


def _log(draw: st.DrawFn, path: Path) -> None:
    """A write-ahead log whose header is valid but for its checksum, or that is random."""
    page_size = draw(st.sampled_from([512, 65536, 1, 1 << 31]))
    words = [0x377F0682, 3007000, page_size, 0, 1, 2, draw(NUMBERS) % (1 << 32), 0]
    header = struct.pack(">8I", *words) if draw(st.booleans()) else draw(st.binary(max_size=32))
    rest = draw(st.randoms(use_true_random=False)).randbytes(draw(st.integers(0, 1 << 17)))
    path.with_name(path.name + "-wal").write_bytes(header + rest)
    if draw(st.booleans()):
        path.with_name(path.name + "-shm").write_bytes(rest[:32768])
