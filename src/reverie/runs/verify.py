"""Verification of a run: every file compared with its checksum, and the files with each other."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reverie import replay
from reverie.config import as_text, diff, from_dict, to_toml
from reverie.errors import ConfigError, RunError
from reverie.runs.atomic_io import Unreadable, loads_checksummed, parse_json, read_file
from reverie.runs.checkpoints import Checkpoints, Snapshot, read_checkpoint, validate_contents, verify_checkpoint
from reverie.runs.layout import CHECKPOINTS, CONFIG, FAILURES, METRICS, PROVENANCE, TRACKERS, VIDEOS
from reverie.runs.run_folder import RunFolder
from reverie.shell import command_line
from reverie.specs import EnvSpec


@dataclass(frozen=True)
class Finding:
    """A difference from what was stored."""

    path: str
    """Relative to the run's folder."""
    what: str
    """End of a sentence that begins with the path."""
    remedy: str
    """Advice, and its cost."""


@dataclass
class Verification:
    """Result of `verify`."""

    valid: list[str] = field(default_factory=list)
    """Each part that is as stored, with how much of it was compared."""
    unchecked: list[str] = field(default_factory=list)
    """Each part that could not be compared, with the reason."""
    damage: list[Finding] = field(default_factory=list)


def verify(run: Path) -> Verification:
    """Compare every byte that a resumed run, or a reader of the run, relies on. Nothing is changed.

    Args:
        run: its folder. A run that is training may be verified, too; what it writes meanwhile may look damaged.

    Raises:
        RunError: if it is no run.
    """
    folder = RunFolder.existing(run)
    checkpoints = Checkpoints(folder.checkpoints).list()
    found = Verification()
    if folder.is_locked():
        found.unchecked.append("a process is training here: what it writes meanwhile may look damaged")
    valid = []
    for path in checkpoints:
        if what := verify_checkpoint(path):
            found.damage.append(_checkpoint_damage(path, what, checkpoints))
        else:
            valid.append(path)
    if valid:
        found.valid.append(f"checkpoints: {', '.join(path.name for path in valid)}")
    snapshots = [read_checkpoint(path)[1] for path in valid]
    newest = snapshots[-1] if snapshots else None
    with validate_contents(valid[-1] if valid else folder.path):
        _config(folder, newest, found)
        _provenance(folder, found)
        _metrics(folder, newest, found)
        _videos(folder, newest, found)
        _failures(folder, found)
        _replay(folder, snapshots, found)
    if any(folder.tensorboard.glob("*")):
        found.unchecked.append("tensorboard: a copy of metrics and videos for TensorBoard, which no run reads")
    return found


def repair(run: Path) -> list[str]:
    """Make a damaged run resumable, without inventing anything.

    Damaged steps of the replay are left out permanently, and damaged checkpoints put aside where a valid one is left.

    Args:
        run: its folder, which is locked meanwhile.

    Returns:
        What was done and what it costs, in sentences.

    Raises:
        RunError: if another process trains there, or there is no valid checkpoint to continue from.
        ReplayError: if the index of the replay is damaged, or the disk is not writable.
    """
    with RunFolder.hold(run) as folder:
        checkpoints = Checkpoints(folder.checkpoints).list()
        damaged = [path for path in checkpoints if verify_checkpoint(path)]
        valid = [path for path in checkpoints if path not in damaged]
        if not valid:
            raise RunError(f"{run} cannot be repaired: there is no valid checkpoint to continue from.")
        done = []
        for path in damaged:
            aside = path.with_name(f"damaged-{path.name}")
            path.rename(aside)
            done.append(f"{path.name} was put aside as {aside.name}.")
        Checkpoints(folder.checkpoints).link_best()
        if damaged and damaged[-1] == checkpoints[-1]:
            done.append(f"The run continues from {valid[-1].name}: later steps are computed again.")
        snapshots = [read_checkpoint(path)[1] for path in valid]
        with validate_contents(valid[-1]):
            steps = EnvSpec.from_json(snapshots[-1].state["spec"]).step
            lost = replay.repair(folder.replay, steps, _commits(snapshots))
        if lost:
            done.append(
                f"{_count(lost, 'damaged step')} of the replay left out permanently; from here on results are not "
                "bit-identical to those without the damage."
            )
        return done


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _commits(snapshots: list[Snapshot]) -> list[Any]:
    """Return the replay's commit in each snapshot."""
    return [snapshot.state["training"]["replay"] for snapshot in snapshots]


def _checkpoint_damage(path: Path, what: str, checkpoints: tuple[Path, ...]) -> Finding:
    others = [other for other in checkpoints if other != path and not verify_checkpoint(other)]
    remedy = f"`{command_line('verify', path.parent.parent, '--repair')}` puts it aside"
    if not others:
        remedy = "restore it from a copy; without it there is nothing to continue from"
    elif path == checkpoints[-1]:
        remedy += f", and --resume continues from {others[-1].name}: later steps are computed again"
    return Finding(f"{CHECKPOINTS}/{path.name}", f"is damaged: {what}", remedy)


@contextmanager
def _finding(found: Verification, path: str, remedy: str) -> Iterator[None]:
    """Turn an `Unreadable` into a finding."""
    try:
        yield
    except Unreadable as error:
        found.damage.append(Finding(path, str(error), remedy))


def _config(folder: RunFolder, newest: Snapshot | None, found: Verification) -> None:
    remedy = "restore it from a copy; the newest checkpoint has a configuration of its own, in state.json"
    with _finding(found, CONFIG, remedy):
        data = read_file(folder.config_path)
        try:
            config = folder.saved_config()
        except ConfigError as error:
            raise Unreadable(f"cannot be used: {error}") from error
        if to_toml(config).encode() != data:
            raise Unreadable("was edited or is damaged: reverie formats it differently")
        if newest is None:
            found.unchecked.append(f"{CONFIG}: there is no valid checkpoint to compare it with")
        elif changes := diff(config, from_dict(newest.state["config"])):
            text = ", ".join(f"{name} {as_text(now)} ({as_text(then)} there)" for name, then, now in changes)
            what = f"is not the configuration of the newest checkpoint: {text}"
            remedy = "nothing, if the run was resumed with other settings and has not saved since; else restore it"
            found.damage.append(Finding(CONFIG, what, remedy))
        else:
            found.valid.append(CONFIG)


def _provenance(folder: RunFolder, found: Verification) -> None:
    remedy = "nothing: it only says how the run was started, and a resumed run does not need it"
    with _finding(found, PROVENANCE, remedy):
        if loads_checksummed(read_file(folder.provenance_path)).keys() != {"preset", "variant", "starts"}:
            raise Unreadable("is another file: it does not say how a run was started")
        found.valid.append(PROVENANCE)
    if folder.trackers_path.exists():
        with _finding(found, TRACKERS, "delete it; a resumed run then starts new runs in its trackers"):
            trackers = loads_checksummed(read_file(folder.trackers_path)).values()
            if not all(isinstance(each, dict) and each.keys() == {"id", "steps"} for each in trackers):
                raise Unreadable("is another file: it does not list trackers")
            found.valid.append(TRACKERS)


def _metrics(folder: RunFolder, newest: Snapshot | None, found: Verification) -> None:
    if newest is None:
        found.unchecked.append(f"{METRICS}: no checkpoint has a checksum of it")
        return
    state = newest.state["training"]["counters"]
    count: int = state["rows"]
    lines: list[bytes] = []
    with _finding(found, METRICS, "restore it from a copy; learning does not need it, curves and reports do"):
        lines = read_file(folder.metrics).splitlines(keepends=True) if count else []
        if len(lines) < count:
            raise Unreadable(f"has {len(lines):,} rows, and had {count:,} at the newest checkpoint")
        if hashlib.sha256(b"".join(lines[:count])).hexdigest() != state["rows_sha256"]:
            raise Unreadable("is damaged: it differs from the newest checkpoint's checksum")
        found.valid.append(f"{METRICS}: {_count(count, 'row')}")
    if later := lines[count:]:
        found.unchecked.append(
            f"{METRICS}: {_count(len(later), 'row')} after the newest checkpoint; --resume drops them"
        )
    if not all(_is_row(line) or (line is lines[-1] and _is_cut_short(line)) for line in later):
        what = "is damaged: there are other lines than rows of metrics after those of the newest checkpoint"
        found.damage.append(Finding(METRICS, what, "continue with --resume, which drops them"))


def _is_row(line: bytes) -> bool:
    try:
        return isinstance(parse_json(line), dict)
    except Unreadable:
        return False


def _is_cut_short(line: bytes) -> bool:
    """Return whether this may be the beginning of a row: the run was killed, or is writing it."""
    begins = b'{"step": '
    return not line.endswith(b"\n") and (line.startswith(begins) or begins.startswith(line))


def _videos(folder: RunFolder, newest: Snapshot | None, found: Verification) -> None:
    known = newest.state["training"]["counters"]["videos"] if newest else {}
    num_valid = 0
    for name, sha256 in known.items():
        with _finding(found, f"{VIDEOS}/{name}", "nothing: a resumed run does not read it"):
            if hashlib.sha256(read_file(folder.videos / name)).hexdigest() != sha256:
                raise Unreadable("is damaged: it does not have its checksum")
            num_valid += 1
    if num_valid:
        found.valid.append(f"videos: {num_valid} files")
    if later := [path for path in folder.videos.glob("*") if path.name not in known]:
        found.unchecked.append(f"videos: {len(later)} files that the newest checkpoint does not list")


def _failures(folder: RunFolder, found: Verification) -> None:
    remedy = "nothing: `reverie replay-step` cannot use it any more, and the run does not need it"
    valid = []
    for path in sorted(path for path in folder.failures.glob("update-*") if path.is_dir()):
        with _finding(found, f"{FAILURES}/{path.name}", remedy):
            if what := verify_checkpoint(path):
                raise Unreadable(f"is damaged: {what}")
            valid.append(path.name)
    if valid:
        found.valid.append(f"failures: {', '.join(valid)}")


def _replay(folder: RunFolder, snapshots: list[Snapshot], found: Verification) -> None:
    name = folder.replay.name
    if not folder.replay.is_file():
        if snapshots and snapshots[-1].state["training"]["counters"]["steps"]:
            what, remedy = "is missing", "nothing, if it was removed on purpose; the run can be read, but not resumed"
            found.damage.append(Finding(name, what, remedy))
        return
    if not snapshots:
        found.unchecked.append(f"{name}: there is no valid checkpoint that says what its steps look like")
        return
    spec = EnvSpec.from_json(snapshots[-1].state["spec"])
    health = replay.verify(folder.replay, spec.step, _commits(snapshots))
    remedy = f"`{command_line('verify', folder.path, '--repair')}` leaves the damaged episodes out permanently"
    if not health.is_repairable:
        remedy = "restore it from a copy; without it only weights are left of the run"
    found.damage += [Finding(name, what, remedy) for what in health.damage]
    if not health.damage:
        found.valid.append(f"{name}: {_count(health.num_steps, 'step')}")
