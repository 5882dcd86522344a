"""Verification of a run: every file compared with its checksum, and the files with each other."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reverie.config import as_text, diff, from_dict, to_toml
from reverie.errors import ConfigError, RunError
from reverie.replay import INDEX, examine
from reverie.replay import repair as repair_replay
from reverie.runs.atomic_io import Unreadable, loads_checksummed, parse_json, read_file
from reverie.runs.checkpoints import Checkpoints, Snapshot, read_checkpoint, validate_contents, verify_checkpoint
from reverie.runs.layout import PROVENANCE
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
            lost = repair_replay(folder.replay, steps, _positions(snapshots))
        if lost:
            done.append(
                f"{_count(lost, 'damaged step')} of the replay left out permanently; from here on results are not "
                "bit-identical to those without the damage."
            )
        return done


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _positions(snapshots: list[Snapshot]) -> list[Any]:
    """Return the replay's position in each snapshot."""
    return [snapshot.state["loop"]["replay"] for snapshot in snapshots]


def _checkpoint_damage(path: Path, what: str, checkpoints: tuple[Path, ...]) -> Finding:
    others = [other for other in checkpoints if other != path and not verify_checkpoint(other)]
    aside = f"`{command_line('verify', path.parent.parent, '--repair')}` puts it aside"
    if path != checkpoints[-1] and others:
        remedy = f"{aside}; nothing else needs it"
    elif others:
        remedy = f"{aside}, and --resume continues from {others[-1].name}: later steps are computed again"
    else:
        remedy = "restore it from a copy; without it there is nothing to continue from"
    return Finding(f"checkpoints/{path.name}", f"is damaged: {what}", remedy)


def _config(folder: RunFolder, newest: Snapshot | None, found: Verification) -> None:
    remedy = "restore it from a copy; the newest checkpoint has a configuration of its own, in state.json"
    try:
        data = read_file(folder.config_path)
        config = folder.saved_config()
        same = to_toml(config).encode() == data
    except (ConfigError, Unreadable) as error:
        found.damage.append(Finding(folder.config_path.name, f"cannot be used: {error}", remedy))
        return
    if not same:
        found.damage.append(
            Finding(folder.config_path.name, "was edited or is damaged: reverie formats it differently", remedy)
        )
    elif newest is None:
        found.unchecked.append("config.toml: there is no valid checkpoint to compare it with")
    elif changes := diff(config, from_dict(newest.state["config"])):
        text = ", ".join(f"{name} {as_text(now)} ({as_text(then)} there)" for name, then, now in changes)
        found.damage.append(
            Finding(
                folder.config_path.name,
                f"is not the configuration of the newest checkpoint: {text}",
                "nothing, if the run was resumed with other settings and has not saved since; else restore it",
            )
        )
    else:
        found.valid.append("config.toml")


def _provenance(folder: RunFolder, found: Verification) -> None:
    remedy = "nothing: it only says how the run was started, and a resumed run does not need it"
    try:
        loads_checksummed(read_file(folder.provenance_path))
        found.valid.append(PROVENANCE)
    except Unreadable as error:
        found.damage.append(Finding(PROVENANCE, str(error), remedy))


def _metrics(folder: RunFolder, newest: Snapshot | None, found: Verification) -> None:
    name = folder.metrics.name
    if newest is None:
        found.unchecked.append(f"{name}: no checkpoint has a checksum of it")
        return
    state = newest.state["loop"]["state"]
    remedy = "restore it from a copy; learning does not need it, curves and reports do"
    try:
        lines = read_file(folder.metrics).splitlines(keepends=True) if state["rows"] else []
    except Unreadable as error:
        found.damage.append(Finding(name, str(error), remedy))
        return
    if len(lines) < state["rows"]:
        what = f"has {len(lines):,} rows, and had {state['rows']:,} at the newest checkpoint"
        found.damage.append(Finding(name, what, remedy))
    elif hashlib.sha256(b"".join(lines[: state["rows"]])).hexdigest() != state["rows_sha256"]:
        found.damage.append(Finding(name, "is damaged: it is not as the newest checkpoint counted it", remedy))
    else:
        found.valid.append(f"{name}: {_count(state['rows'], 'row')}")
    later = lines[state["rows"] :]
    if later:
        found.unchecked.append(f"{name}: {_count(len(later), 'row')} after the newest checkpoint; --resume drops them")
    if not all(map(_is_row, later[:-1])) or not all(_is_row(line) or _is_cut_short(line) for line in later[-1:]):
        what = "is damaged: what follows the rows of the newest checkpoint is not rows of metrics"
        found.damage.append(Finding(name, what, "continue with --resume, which drops them"))


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
    known = newest.state["loop"]["state"]["videos"] if newest else {}
    valid = 0
    for name, sha256 in known.items():
        what = ""
        try:
            if hashlib.sha256(read_file(folder.videos / name)).hexdigest() != sha256:
                what = "is damaged: it does not have its checksum"
        except Unreadable as error:
            what = str(error)
        if what:
            found.damage.append(Finding(f"videos/{name}", what, "nothing: a resumed run does not read it"))
        valid += not what
    if valid:
        found.valid.append(f"videos: {valid} files")
    later = [path for path in folder.videos.glob("*") if path.name not in known]
    if later:
        found.unchecked.append(f"videos: {len(later)} files that the newest checkpoint does not know")


def _failures(folder: RunFolder, found: Verification) -> None:
    kept = sorted(path for path in folder.failures.glob("update-*") if path.is_dir())
    damages = {path: verify_checkpoint(path) for path in kept}
    for path, what in damages.items():
        if what:
            remedy = "nothing: `reverie replay-step` cannot use it any more, and the run does not need it"
            found.damage.append(Finding(f"failures/{path.name}", f"is damaged: {what}", remedy))
    if valid := [path.name for path in kept if not damages[path]]:
        found.valid.append(f"failures: {', '.join(valid)}")


def _replay(folder: RunFolder, snapshots: list[Snapshot], found: Verification) -> None:
    if not folder.replay.is_dir() or not any(folder.replay.iterdir()):
        if snapshots and snapshots[-1].state["loop"]["state"]["steps"]:
            what, remedy = "is missing", "nothing, if it was removed on purpose; the run can be read, but not resumed"
            found.damage.append(Finding("replay", what, remedy))
        return
    if not snapshots:
        found.unchecked.append("replay: there is no valid checkpoint that says what its steps look like")
        return
    spec = EnvSpec.from_json(snapshots[-1].state["spec"])
    health = examine(folder.replay, spec.step, _positions(snapshots))
    for name, what in health.damage:
        remedy = f"`{command_line('verify', folder.path, '--repair')}` leaves the damaged steps out permanently"
        if name == INDEX:
            remedy = "restore it from a copy; without it only weights are left of the run"
        found.damage.append(Finding(f"replay/{name}", what, remedy))
    if not health.damage:
        found.valid.append(f"replay: {_count(health.steps, 'step')}")
    if health.given_up:
        found.unchecked.append(f"replay: {_count(health.given_up, 'damaged step')} left out by an earlier repair")
    if not health.checked:
        found.unchecked.append("replay: its steps have no checksums, since an older version of reverie created it")
