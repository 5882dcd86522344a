"""Damage a run at random places, and check that the damage is found.

    python benchmarks/damage.py --places 1000 --resumed 300 --out results/damage.jsonl

A small run is trained to its end, and copied once while it trained: then its newest steps are in SQLite's write-ahead
log alone. Again and again one of the two is copied and damaged in one place. Six kinds of places get the same share:
pages of the database, its rows (through SQL: their values are exchanged, changed or deleted), the log, checkpoints,
metrics, and all other files. What must hold every time:

- `reverie verify` names damage, or everything that a run continues from is bit for bit what it was (`no effect`: a free
  part of a page, a step that is not stored any more, a file for TensorBoard). A checkpoint that is gone as a whole is
  the exception: that is how one returns to the one before.
- `reverie digest` refuses with one sentence, or finds what was stored.
- with `--resumed`, for some of the copies: `--resume` refuses with one sentence, says what is lost, or ends in the very
  bits of the run that was not damaged.

Any other error, or other content, is a failure; they are printed, and the exit status is 1.
"""

import random
import re
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch
from reporting import Report, parser
from tiny_run import SETTINGS, train

from reverie import Callback
from reverie.errors import ReverieError
from reverie.runs.digest import digest
from reverie.runs.verify import verify

MORE = 60
"""Steps that a damaged run is trained on."""
NOT_COMPARED = ("tensorboard/", "lock.json", ".lock", "replay.db")
"""Files of which a part, or all, is read by no run."""
LOSS = re.compile("was changed since|is corrupted or gone|has lost steps|not be bit-identical")
"""Messages of a resumed run about what it lacks."""


class CopyWhileTraining(Callback):
    """Copies the run folder at a step. A reader of the replay keeps SQLite from merging its log before that."""

    def __init__(self, target: Path, first: int = 230, last: int = 385) -> None:
        self._target, self._first, self._last = target, first, last
        self._reader: sqlite3.Connection | None = None

    def on_start(self, run: Any) -> None:
        self._run = run

    def on_step(self, counters: Any, transitions: object) -> None:
        if self._reader is None and counters.steps >= self._first:
            self._reader = sqlite3.connect(self._run.path / "replay.db", isolation_level=None)
            self._reader.execute("BEGIN")
            self._reader.execute("SELECT count(*) FROM steps").fetchone()
        if counters.steps >= self._last and not self._target.exists():
            shutil.copytree(self._run.path, self._target, symlinks=True)
            assert self._reader is not None
            self._reader.close()


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
    "start an episode later": "UPDATE episodes SET start = start + 1 WHERE id = :episode",
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
        connection.execute(ROWS[name], values | {"key": rng.choice(("steps", "identity", "commits"))})
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


class Source(NamedTuple):
    """A run to be damaged."""

    path: Path
    content: dict[str, str]
    """Its digest."""
    reference: dict[str, str]
    """Its digest after `MORE` steps."""
    num_checkpoints: int


def source(path: Path) -> Source:
    """Return what an undamaged run holds, and leads to."""
    longer = path.with_name(f"{path.name}-longer")
    shutil.copytree(path, longer, symlinks=True)
    train(longer, resume=True, steps=SETTINGS["steps"] + MORE)
    assert not verify(path).damage
    return Source(path, digest(path), digest(longer), len(list((path / "checkpoints").glob("step-*"))))


def content_of(run: Path) -> dict[str, str] | str:
    """Return digests of what the run continues from; a sentence where it is refused."""
    try:
        return digest(run)
    except ReverieError as error:
        return str(error)


def examine(run: Path, intact: Source, kind: str, file: str) -> str:
    """Return `found`, `no effect`, or what went wrong."""
    try:
        found = [each.path for each in verify(run).damage]
    except ReverieError as error:
        found = [str(error)]
    content = content_of(run)
    if found:
        return "found"
    if len(list((run / "checkpoints").glob("step-*"))) < intact.num_checkpoints:
        return "a checkpoint is gone as a whole"
    if content != intact.content:
        return f"failed: verify finds nothing, digest {content}"
    if file.startswith(NOT_COMPARED) or (file == "trackers.json" and kind == "delete"):
        return "no effect"
    return "failed: not found"


def resume(run: Path, reference: dict[str, str]) -> str:
    """Return `refused`, `the same`, `said`, or what went wrong."""
    try:
        said = train(run, resume=True, steps=SETTINGS["steps"] + MORE)
    except ReverieError as error:
        return "refused" if str(error) else "failed: refused without a word"
    content = content_of(run)
    if content == reference:
        return "the same"
    if any(LOSS.search(text) for text in said):
        return "said"
    differing = content if isinstance(content, str) else [k for k in reference if content[k] != reference[k]]
    return f"failed: resumed without a word, differs in {differing}"


def main() -> int:
    """Damage, examine, count."""
    options_parser = parser(__doc__)
    options_parser.add_argument("--places", type=int, default=1000)
    options_parser.add_argument("--resumed", type=int, default=100, help="of these, how many are resumed, too")
    options_parser.add_argument("--seed", type=int, default=0)
    options = options_parser.parse_args()
    torch.set_num_threads(1)
    report, rng = Report(options.out), random.Random(options.seed)
    outcomes: dict[str, Counter[str]] = {
        place: Counter() for place in ("pages", "rows", "log", "checkpoints", "metrics", "other")
    }
    kinds: Counter[str] = Counter()
    resumed: Counter[str] = Counter()
    failures = []
    with tempfile.TemporaryDirectory() as temporary:
        whole, killed, copy = Path(temporary, "whole"), Path(temporary, "killed"), Path(temporary, "copy", "run")
        train(whole, callbacks=[CopyWhileTraining(killed)], **{"replay.fsync_interval": 0})
        sources = [source(whole), source(killed)]
        for number in range(options.places):
            place = list(outcomes)[number % len(outcomes)]
            is_killed = place == "log" or (place in ("pages", "rows", "checkpoints") and rng.random() < 0.5)
            intact = sources[is_killed]
            shutil.rmtree(copy.parent, ignore_errors=True)
            shutil.copytree(intact.path, copy, symlinks=True)
            before = {path: path.read_bytes() for path in files_of(copy)}
            kind, file = (
                damage_file(copy, place, rng)
                if place != "rows"
                else (
                    damage_rows(copy / "replay.db", rng),
                    "replay.db",
                )
            )
            is_unchanged = before == {path: path.read_bytes() for path in files_of(copy)}
            results = ["unchanged" if is_unchanged else examine(copy, intact, kind, file)]
            if number < options.resumed and not is_unchanged:
                results.append(resume(copy, intact.reference))
                resumed[results[-1].split(":")[0]] += 1
            outcomes[place][results[0].split(":")[0]] += 1
            kinds[f"{kind}: {results[0].split(':')[0]}"] += 1
            for result in results:
                if result.startswith("failed"):
                    failures.append(f"{number}: {kind} in {file} of {intact.path.name}: {result}")
                    print(failures[-1], flush=True)
        row = {
            "places": options.places,
            "seed": options.seed,
            "outcomes": {place: dict(counts) for place, counts in outcomes.items()},
            "kinds": dict(sorted(kinds.items())),
            "resumed": dict(resumed),
            "failures": failures,
        }
        report.write(row, whole)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
