"""Kinds of damage: of bytes, of whole files, and of rows in the replay."""

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path


def files_of(run: Path) -> list[Path]:
    """Return every file of a run, links aside."""
    return sorted(path for path in run.rglob("*") if path.is_file() and not path.is_symlink())


def change_bit(path: Path, other: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)


def change_bytes(path: Path, other: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = rng.randrange(len(data) + 1)
    data[start : start + rng.randrange(1, 64)] = rng.randbytes(rng.randrange(1, 64))
    path.write_bytes(data)


def zero_page(path: Path, other: Path, rng: random.Random) -> None:
    """Let a part read as zeros, as after a power cut on some file systems."""
    data = bytearray(path.read_bytes())
    start = rng.randrange(len(data) + 1)
    count = min(4096, len(data) - start)
    data[start : start + count] = bytes(count)
    path.write_bytes(data)


def move_block(path: Path, other: Path, rng: random.Random) -> None:
    """Let a part read as another part of the same file, as after a misdirected write."""
    data = bytearray(path.read_bytes())
    source, target = (512 * rng.randrange(len(data) // 512 + 1) for _ in range(2))
    count = min(rng.choice((512, 4096, 65536)), len(data) - source, len(data) - target)
    data[target : target + count] = data[source : source + count]
    path.write_bytes(data)


def truncate(path: Path, other: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data) + 1)])


def empty(path: Path, other: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def lengthen(path: Path, other: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randrange(1, 100)))


def delete(path: Path, other: Path, rng: random.Random) -> None:
    path.unlink()


def delete_folder(path: Path, other: Path, rng: random.Random) -> None:
    """Delete the folder with the file, unless it is the whole run."""
    shutil.rmtree(path.parent) if path.parent.name != "run" else path.unlink()


def duplicate(path: Path, other: Path, rng: random.Random) -> None:
    """Put the content of another file there."""
    shutil.copyfile(other, path)


def swap(path: Path, other: Path, rng: random.Random) -> None:
    """Exchange two files."""
    content = path.read_bytes()
    shutil.copyfile(other, path)
    other.write_bytes(content)


INSIDE = (change_bit, change_bit, change_bytes, zero_page, zero_page, move_block)
WHOLE = (truncate, empty, lengthen, delete, delete_folder, duplicate, swap)
KINDS = (*INSIDE, *WHOLE)

OTHER_STEP = "FROM steps AS other WHERE steps.id IN (:a, :b) AND other.id = :a + :b - steps.id"
ROWS = {
    "exchange data": f"UPDATE steps SET data = other.data {OTHER_STEP}",
    "exchange rows": f"UPDATE steps SET data = other.data, crc = other.crc {OTHER_STEP}",
    "repeat a row": f"UPDATE steps SET data = other.data, crc = other.crc {OTHER_STEP} AND steps.id = :a",
    "change crc": "UPDATE steps SET crc = (crc | 1 << :bit) - (crc & 1 << :bit) WHERE id = :a",
    "lose data": "UPDATE steps SET data = zeroblob(length(data)) WHERE id = :a",
    "cut data": "UPDATE steps SET data = substr(data, 1, :bit) WHERE id = :a",
    "text for data": "UPDATE steps SET data = 'text' WHERE id = :a",
    "delete a row": "DELETE FROM steps WHERE id = :a",
    "delete rows": "DELETE FROM steps WHERE id BETWEEN :a AND :a + :bit",
    "renumber a row": "UPDATE steps SET id = (SELECT max(id) + 1 FROM steps) WHERE id = :a",
    "lengthen an episode": "UPDATE episodes SET length = length + 1 WHERE id = :episode",
    "shorten an episode": "UPDATE episodes SET length = length - 1 WHERE id = :episode",
    "give away an episode": "UPDATE episodes SET env = env + 1 WHERE id = :episode",
    "reopen an episode": "UPDATE episodes SET finished = NULL WHERE id = :episode",
    "delete an episode": "DELETE FROM episodes WHERE id = :episode",
    "delete an episode's rows": "DELETE FROM steps WHERE id >> 24 = :episode",
    "change an entry": "UPDATE meta SET value = replace(value, '1', '2') WHERE key = :key",
    "delete an entry": "DELETE FROM meta WHERE key = :key",
    "other format": "PRAGMA user_version = 7",
}
"""Damage of rows: name, and the statement."""


def damage_rows(path: Path, rng: random.Random) -> str:
    """Change rows of the replay, and return how."""
    name = rng.choice(list(ROWS))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        steps = [step for (step,) in connection.execute("SELECT id FROM steps")]
        episodes = [episode for (episode,) in connection.execute("SELECT id FROM episodes")]
        a, b = rng.sample(steps, 2)
        values = {"a": a, "b": b, "bit": rng.randrange(30), "episode": rng.choice(episodes)}
        connection.execute(ROWS[name], values | {"key": rng.choice(("steps", "commits"))})
    return name


def damage_file(run: Path, place: str, rng: random.Random) -> tuple[str, str]:
    """Damage a file in one place; return the kind, and the file."""
    names = {path: str(path.relative_to(run)) for path in files_of(run)}
    belongs: dict[str, Callable[[str], bool]] = {
        "pages": lambda name: name == "replay.db",
        "log": lambda name: name == "replay.db-wal" or (name == "replay.db-shm" and rng.random() < 0.2),
        "checkpoints": lambda name: name.startswith("checkpoints/"),
        "metrics": lambda name: name == "metrics.jsonl",
        "other": lambda name: not name.startswith(("replay.db", "checkpoints/", "metrics.jsonl")),
    }
    path = rng.choice([path for path, name in names.items() if belongs[place](name)])
    others = [other for other in names if other != path]
    siblings = [other for other in others if other.suffix == path.suffix]
    other = rng.choice(siblings if siblings and rng.random() < 0.5 else others)
    kind = rng.choice((*INSIDE, *KINDS) if place in ("pages", "log") else KINDS)
    kind(path, other, rng)
    return kind.__name__, names[path]
