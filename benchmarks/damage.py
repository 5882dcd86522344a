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
from pathlib import Path
from typing import Any, NamedTuple

import torch
from damage_kinds import damage_file, damage_rows, files_of
from reporting import Report, parser
from tiny_run import SETTINGS, train

from reverie import Callback
from reverie.errors import ReverieError
from reverie.runs.digest import digest
from reverie.runs.verify import verify

MORE = 60
"""Steps that a damaged run is trained on."""
NOT_COMPARED = ("tensorboard/", "messages.log", "lock.json", ".lock", "replay.db")
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
    if file.startswith(NOT_COMPARED) or (file == "trackers.json" and kind.startswith("delete")):
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
