"""Whether a run is what was stored: every file compared with its checksum, and the files with each other."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reverie import replay
from reverie.config import as_text, diff, from_dict, to_toml
from reverie.errors import ConfigError, RunError
from reverie.runs.atomic_io import Unreadable, parse_json, read_whole, unseal
from reverie.runs.checkpoints import Checkpoints, Snapshot, damage_of, read_checkpoint, understood
from reverie.runs.launches import ABOUT
from reverie.runs.locks import is_held
from reverie.runs.run_folder import LOCK, RunFolder
from reverie.shell import command_line
from reverie.specs import EnvSpec


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was stored."""

    path: str
    """In the run's folder."""
    what: str
    """End of a sentence that begins with the path."""
    remedy: str
    """What to do, and what it costs."""


@dataclass
class Verification:
    """What was compared, and what was found."""

    sound: list[str] = field(default_factory=list)
    """Each part in words, with how much of it was compared."""
    unchecked: list[str] = field(default_factory=list)
    """What could not be compared, and why."""
    damage: list[Finding] = field(default_factory=list)


def verify(run: Path) -> Verification:
    """Compare every byte that a run, or whoever reads it, would go on from. Nothing is changed.

    Args:
        run: its folder. A run that is training may be verified, too; what it writes meanwhile may look damaged.

    Raises:
        RunError: if it is no run.
    """
    folder = RunFolder.existing(run)
    checkpoints = Checkpoints(folder.checkpoints).list()
    found = Verification()
    if is_held(folder.path / LOCK):
        found.unchecked.append("a process is training here: what it writes meanwhile may look damaged")
    sound = []
    for path in checkpoints:
        if what := damage_of(path):
            found.damage.append(_checkpoint_damage(path, what, checkpoints))
        else:
            sound.append(path)
    if sound:
        found.sound.append(f"checkpoints: {', '.join(path.name for path in sound)}")
    snapshots = [read_checkpoint(path)[1] for path in sound]
    newest = snapshots[-1] if snapshots else None
    with understood(sound[-1] if sound else folder.path):
        _config(folder, newest, found)
        _about(folder, found)
        _metrics(folder, newest, found)
        _videos(folder, newest, found)
        _failures(folder, found)
        _replay(folder, snapshots, found)
    if any(folder.tensorboard.glob("*")):
        found.unchecked.append(
            "tensorboard: a copy of the metrics and videos for TensorBoard, which nothing goes on from"
        )
    return found


def repair(run: Path) -> list[str]:
    """Make a damaged run fit to go on, as far as that can be done without inventing anything.

    Damaged steps of the replay are left out for good, and damaged checkpoints put aside where a sound one is left.

    Args:
        run: its folder, which is locked meanwhile.

    Returns:
        What was done and what it costs, in sentences.

    Raises:
        RunError: if another process trains there, or there is no sound checkpoint to go on from.
        ReplayError: if the index of the replay is damaged, or the disk does not let us.
    """
    with RunFolder.hold(run) as folder:
        checkpoints = Checkpoints(folder.checkpoints).list()
        damaged = [path for path in checkpoints if damage_of(path)]
        sound = [path for path in checkpoints if path not in damaged]
        if not sound:
            raise RunError(f"{run} cannot be repaired: there is no sound checkpoint to go on from.")
        done = []
        for path in damaged:
            aside = path.with_name(f"damaged-{path.name}")
            path.rename(aside)
            done.append(f"{path.name} was put aside as {aside.name}.")
        Checkpoints(folder.checkpoints).link_best()
        if damaged and damaged[-1] == checkpoints[-1]:
            done.append(f"The run goes on from {sound[-1].name}: what came after it is learned again.")
        snapshots = [read_checkpoint(path)[1] for path in sound]
        with understood(sound[-1]):
            steps = EnvSpec.from_json(snapshots[-1].state["spec"]).step
            lost = replay.repair(folder.replay, steps, _commits(snapshots))
        if lost:
            done.append(
                f"{_count(lost, 'damaged step')} of the replay left out for good; from here on the run is another, bit "
                "for bit, than without the damage."
            )
        return done


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _commits(snapshots: list[Snapshot]) -> list[Any]:
    """Of the replay."""
    return [snapshot.state["loop"]["replay"] for snapshot in snapshots]


def _checkpoint_damage(path: Path, what: str, checkpoints: tuple[Path, ...]) -> Finding:
    others = [other for other in checkpoints if other != path and not damage_of(other)]
    aside = f"`{command_line('verify', path.parent.parent, '--repair')}` puts it aside"
    if path != checkpoints[-1] and others:
        remedy = f"{aside}; nothing else needs it"
    elif others:
        remedy = f"{aside}, and --resume goes on from {others[-1].name}: what came after it is learned again"
    else:
        remedy = "put it back from a copy; without it there is nothing to go on from"
    return Finding(f"checkpoints/{path.name}", f"is damaged: {what}", remedy)


def _config(folder: RunFolder, newest: Snapshot | None, found: Verification) -> None:
    remedy = "put it back from a copy; the newest checkpoint has a configuration of its own, in state.json"
    try:
        data = read_whole(folder.config_path)
        config = folder.saved_config()
        same = to_toml(config).encode() == data
    except (ConfigError, Unreadable) as error:
        found.damage.append(Finding(folder.config_path.name, f"cannot be used: {error}", remedy))
        return
    if not same:
        found.damage.append(
            Finding(folder.config_path.name, "was edited or is damaged: reverie writes it otherwise", remedy)
        )
    elif newest is None:
        found.unchecked.append("config.toml: there is no valid checkpoint to compare it with")
    elif changes := diff(config, from_dict(newest.state["config"])):
        text = ", ".join(f"{name} {as_text(now)} ({as_text(then)} there)" for name, then, now in changes)
        found.damage.append(
            Finding(
                folder.config_path.name,
                f"is not the configuration of the newest checkpoint: {text}",
                "nothing, if the run was resumed with other settings and has not saved since; else put it back",
            )
        )
    else:
        found.sound.append("config.toml")


def _about(folder: RunFolder, found: Verification) -> None:
    path = folder.path / ABOUT
    remedy = "nothing: it only says how the run was started, and is not read when the run goes on"
    try:
        data = read_whole(path)
        unseal(data)
        found.sound.append(ABOUT)
    except Unreadable as error:
        found.damage.append(Finding(ABOUT, str(error), remedy))


def _metrics(folder: RunFolder, newest: Snapshot | None, found: Verification) -> None:
    name = folder.metrics.name
    if newest is None:
        found.unchecked.append(f"{name}: no checkpoint has a checksum of it")
        return
    state = newest.state["loop"]["state"]
    remedy = "put it back from a copy; learning does not need it, curves and reports do"
    try:
        lines = read_whole(folder.metrics).splitlines(keepends=True) if state["rows"] else []
    except Unreadable as error:
        found.damage.append(Finding(name, str(error), remedy))
        return
    if len(lines) < state["rows"]:
        what = f"has {len(lines):,} rows, and had {state['rows']:,} at the newest checkpoint"
        found.damage.append(Finding(name, what, remedy))
    elif hashlib.sha256(b"".join(lines[: state["rows"]])).hexdigest() != state["rows_sha256"]:
        found.damage.append(Finding(name, "is damaged: it is not as the newest checkpoint counted it", remedy))
    else:
        found.sound.append(f"{name}: {_count(state['rows'], 'row')}")
    later = lines[state["rows"] :]
    if later:
        found.unchecked.append(f"{name}: {_count(len(later), 'row')} after the newest checkpoint; --resume drops them")
    if not all(map(_is_row, later[:-1])) or not all(_is_row(line) or _is_cut_short(line) for line in later[-1:]):
        what = "is damaged: what follows the rows of the newest checkpoint is not rows of metrics"
        found.damage.append(Finding(name, what, "go on with --resume, which drops them"))


def _is_row(line: bytes) -> bool:
    try:
        return isinstance(parse_json(line), dict)
    except Unreadable:
        return False


def _is_cut_short(line: bytes) -> bool:
    """Whether this may be the beginning of a row: the run was killed, or is writing it."""
    begins = b'{"step": '
    return not line.endswith(b"\n") and (line.startswith(begins) or begins.startswith(line))


def _videos(folder: RunFolder, newest: Snapshot | None, found: Verification) -> None:
    known = newest.state["loop"]["state"]["videos"] if newest else {}
    sound = 0
    for name, sha256 in known.items():
        what = ""
        try:
            if hashlib.sha256(read_whole(folder.videos / name)).hexdigest() != sha256:
                what = "is damaged: it does not have its checksum"
        except Unreadable as error:
            what = str(error)
        if what:
            found.damage.append(
                Finding(f"videos/{name}", what, "nothing: it is a picture, and nothing goes on from it")
            )
        sound += not what
    if sound:
        found.sound.append(f"videos: {sound} files")
    later = [path for path in folder.videos.glob("*") if path.name not in known]
    if later:
        found.unchecked.append(f"videos: {len(later)} files that the newest checkpoint does not know")


def _failures(folder: RunFolder, found: Verification) -> None:
    kept = sorted(path for path in folder.failures.glob("update-*") if path.is_dir())
    damages = {path: damage_of(path) for path in kept}
    for path, what in damages.items():
        if what:
            remedy = "nothing: `reverie replay-step` cannot use it any more, and the run does not need it"
            found.damage.append(Finding(f"failures/{path.name}", f"is damaged: {what}", remedy))
    if sound := [path.name for path in kept if not damages[path]]:
        found.sound.append(f"failures: {', '.join(sound)}")


def _replay(folder: RunFolder, snapshots: list[Snapshot], found: Verification) -> None:
    name = folder.replay.name
    if not folder.replay.is_file():
        if snapshots and snapshots[-1].state["loop"]["state"]["steps"]:
            what, remedy = "is missing", "nothing, if it was removed on purpose; the run can be read, but not resumed"
            found.damage.append(Finding(name, what, remedy))
        return
    if not snapshots:
        found.unchecked.append(f"{name}: there is no sound checkpoint that says what its steps look like")
        return
    spec = EnvSpec.from_json(snapshots[-1].state["spec"])
    health = replay.verify(folder.replay, spec.step, _commits(snapshots))
    remedy = f"`{command_line('verify', folder.path, '--repair')}` leaves the damaged episodes out for good"
    if not health.is_repairable:
        remedy = "put it back from a copy; without it only weights are left of the run"
    found.damage += [Finding(name, what, remedy) for what in health.damage]
    if not health.damage:
        found.sound.append(f"{name}: {_count(health.num_steps, 'step')}")
