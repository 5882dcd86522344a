"""Damage a finished run at random places, and see whether it is found.

    python benchmarks/damage.py --places 1000 --resumed 100 --out results/damage.jsonl

A small run is trained. Then, again and again, a copy of it is damaged in one place: a bit or byte is changed, a file is
cut short, lengthened, emptied, deleted, copied over another one or swapped with it, or a whole folder is deleted. What
must hold every time:

- `reverie verify` names damage, or everything that a run goes on from is bit for bit what it was (`no effect`: a step
  that is not remembered any more, a file for TensorBoard). A checkpoint that is gone as a whole is the exception: that
  is how one goes back to the one before.
- `reverie digest` refuses with one sentence, or finds what was stored.
- with `--resumed`, for some of the copies: `--resume` refuses with one sentence, says what is lost, or ends in the very
  bits of the run that was not damaged.

Any other error, or other content, is a failure; they are printed, and the exit status is 1.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import reverie
import reverie.training.display
from reverie.bench.machine import machine
from reverie.config import load_config
from reverie.errors import ReverieError
from reverie.provenance import commit
from reverie.runs.digest import digest
from reverie.runs.verify import verify

ENV = "MinAtar/Breakout-v1"
SETTINGS: dict[str, Any] = {
    "seed": 1,
    "threads": 1,
    "precision": "fp32",
    "steps": 400,
    "prefill": 300,
    "pretrain": 4,
    "train_every": 25,
    "log_every": 50,
    "eval_every": 200,
    "eval_episodes": 1,
    "video_every": 200,
    "checkpoint_every": 50,
    "keep_checkpoints": 2,
    "replay.capacity": 350,
    "replay.batch_size": 2,
    "replay.batch_length": 6,
    "behavior.horizon": 3,
    "world_model.encoder.cnn_depth": 2,
    "world_model.decoder.cnn_depth": 2,
    "world_model.rssm.deter": 8,
    "world_model.rssm.hidden": 8,
    "world_model.rssm.stoch": 2,
    "world_model.rssm.classes": 4,
    "world_model.reward_head.units": 8,
    "world_model.discount_head.units": 8,
    "behavior.actor.units": 8,
    "behavior.critic.units": 8,
}
MORE = 60
"""Steps that a damaged run goes on for."""
NOT_COMPARED = ("tensorboard/", "lock.json", ".lock")
"""What nothing goes on from."""


def train(folder: Path, resume: bool = False, **more: Any) -> None:
    """The small run, or more of it."""
    reverie.train(ENV, preset="minatar", logdir=folder, resume=resume, **{**SETTINGS, **more})


def files_of(run: Path) -> list[Path]:
    """Every file of a run, links aside."""
    return sorted(path for path in run.rglob("*") if path.is_file() and not path.is_symlink())


def change_bit(path: Path, other: Path, rng: random.Random) -> None:
    """One bit of a file."""
    data = bytearray(path.read_bytes())
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)


def change_bytes(path: Path, other: Path, rng: random.Random) -> None:
    """Some bytes in a row become others."""
    data = bytearray(path.read_bytes())
    start = rng.randrange(len(data) + 1)
    data[start : start + rng.randrange(1, 64)] = rng.randbytes(rng.randrange(1, 64))
    path.write_bytes(data)


def zero_page(path: Path, other: Path, rng: random.Random) -> None:
    """A part of the file reads as zeros, as after a power cut on some file systems."""
    data = bytearray(path.read_bytes())
    start = rng.randrange(len(data) + 1)
    count = min(4096, len(data) - start)
    data[start : start + count] = bytes(count)
    path.write_bytes(data)


def truncate(path: Path, other: Path, rng: random.Random) -> None:
    """The end is missing."""
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data) + 1)])


def empty(path: Path, other: Path, rng: random.Random) -> None:
    """Nothing is left in it."""
    path.write_bytes(b"")


def lengthen(path: Path, other: Path, rng: random.Random) -> None:
    """Something follows."""
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randrange(1, 100)))


def delete(path: Path, other: Path, rng: random.Random) -> None:
    """The file is gone."""
    path.unlink()


def delete_folder(path: Path, other: Path, rng: random.Random) -> None:
    """The folder with the file is gone, unless it is the whole run."""
    shutil.rmtree(path.parent) if path.parent.name != "run" else path.unlink()


def duplicate(path: Path, other: Path, rng: random.Random) -> None:
    """Another file stands in its place."""
    shutil.copyfile(other, path)


def swap(path: Path, other: Path, rng: random.Random) -> None:
    """Two files have changed places."""
    content = path.read_bytes()
    shutil.copyfile(other, path)
    other.write_bytes(content)


Kind = Callable[[Path, Path, random.Random], None]
KINDS: tuple[Kind, ...] = (
    change_bit,
    change_bit,
    change_bytes,
    zero_page,
    truncate,
    empty,
    lengthen,
    delete,
    delete_folder,
    duplicate,
    swap,
)


def content_of(run: Path) -> dict[str, str] | str:
    """Digests of what the run goes on from; a sentence where it is refused."""
    try:
        return digest(run)
    except ReverieError as error:
        return str(error)


def damage_once(run: Path, rng: random.Random) -> tuple[str, str]:
    """Damage a run in one place; the kind, and the file."""
    files = files_of(run)
    path, other = rng.sample(files, 2)
    if rng.random() < 0.5:  # a neighbour is a better impostor
        siblings = [file for file in files if file.suffix == path.suffix and file != path] or [other]
        other = rng.choice(siblings)
    kind = rng.choice(KINDS)
    kind(path, other, rng)
    return kind.__name__, str(path.relative_to(run))


def unchanged(before: dict[str, bytes], run: Path) -> bool:
    """Whether every file is as it was."""
    return before == {str(path.relative_to(run)): path.read_bytes() for path in files_of(run)}


def examine_one(run: Path, sound: dict[str, str], checkpoints: int) -> str:
    """`found`, `no effect`, or what went wrong."""
    try:
        found = [each.path for each in verify(run).damage]
    except ReverieError as error:
        found = [str(error)]
    content = content_of(run)
    if content != sound and not found and len(list((run / "checkpoints").glob("step-*"))) < checkpoints:
        return "a checkpoint is gone as a whole"
    if content != sound and not found:
        return f"failed: verify finds nothing, digest {content}"
    return "found" if found else "no effect"


def resume_one(run: Path, reference: dict[str, str]) -> str:
    """`refused`, `the same`, `said`, or what went wrong."""
    said: list[str] = []
    log, reverie_log = [], reverie.training.display.Display.log
    reverie.training.display.Display.log = lambda self, text: log.append(text)  # type: ignore[method-assign]
    try:
        train(run, resume=True, steps=SETTINGS["steps"] + MORE)
    except ReverieError as error:
        return "refused" if str(error) else "failed: refused without a word"
    finally:
        reverie.training.display.Display.log = reverie_log  # type: ignore[method-assign]
    said = [text for text in log if "checkpoint" in text or "goes on" in text or "does not need it" in text]
    content = content_of(run)
    if content == reference:
        return "the same"
    if said:
        return "said"
    differing = content if isinstance(content, str) else [k for k in reference if content[k] != reference[k]]
    return f"failed: went on in silence, differs in {differing}"


def main() -> int:
    """Damage, examine, count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--places", type=int, default=1000)
    parser.add_argument("--resumed", type=int, default=100, help="of these, how many are resumed, too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file that one line with the counts is added to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng, started = random.Random(options.seed), time.monotonic()
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    resumed: Counter[str] = Counter()
    failures = []
    with tempfile.TemporaryDirectory() as temporary:
        source, longer, copy = Path(temporary, "source"), Path(temporary, "longer"), Path(temporary, "copy", "run")
        train(source)
        shutil.copytree(source, longer, symlinks=True)
        train(longer, resume=True, steps=SETTINGS["steps"] + MORE)
        sound, reference = digest(source), digest(longer)
        assert not verify(source).damage
        checkpoints = len(list((source / "checkpoints").glob("step-*")))
        about_machine = machine(load_config(source / "config.toml"))
        for place in range(options.places):
            shutil.rmtree(copy.parent, ignore_errors=True)
            shutil.copytree(source, copy, symlinks=True)
            before = {str(path.relative_to(copy)): path.read_bytes() for path in files_of(copy)}
            kind, file = damage_once(copy, rng)
            outcome = "unchanged" if unchanged(before, copy) else examine_one(copy, sound, checkpoints)
            if outcome == "no effect" and kind == "delete_folder" and file.startswith("checkpoints/"):
                outcome = "a checkpoint is gone as a whole"
            elif outcome == "no effect" and not file.startswith((*NOT_COMPARED, "replay/")):
                outcome = "failed: not found"
            results = [outcome]
            if place < options.resumed and outcome != "unchanged":
                results.append(resume_one(copy, reference))
                resumed[results[-1].split(":")[0]] += 1
            counts[outcome.split(":")[0]] += 1
            kinds[f"{kind}: {outcome.split(':')[0]}"] += 1
            for result in results:
                if result.startswith("failed"):
                    failures.append(f"{place}: {kind} in {file}: {result}")
                    print(failures[-1], flush=True)
    row = {
        "places": options.places,
        "seed": options.seed,
        "outcomes": dict(counts),
        "kinds": dict(sorted(kinds.items())),
        "resumed": dict(resumed),
        "failures": failures,
        "seconds": round(time.monotonic() - started, 1),
        "commit": commit(),
        "machine": about_machine,
    }
    print(json.dumps(row, indent=2))
    if options.out:
        with options.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
