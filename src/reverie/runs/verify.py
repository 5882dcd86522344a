"""Verification of a run: every file compared with its checksum, and the files with each other."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reverie import replay
from reverie.config import as_text, diff, from_dict, to_toml
from reverie.envs.space_json import spec_from_json
from reverie.errors import ConfigError, RunError
from reverie.runs.atomic_io import Unreadable, loads_checksummed, read_file
from reverie.runs.checkpoint import read_state, validate_contents, verify_checkpoint
from reverie.runs.checkpoints import Checkpoints
from reverie.runs.layout import CHECKPOINTS, CONFIG, FAILURES, METRICS, PROVENANCE, TRACKERS, VIDEOS
from reverie.runs.metrics import parse_row
from reverie.runs.run_folder import RunFolder
from reverie.shell import command_line

LATER_ROWS = "other lines than rows of metrics after those of the newest checkpoint"


@dataclass(frozen=True)
class Finding:
    """A difference from what was stored."""

    path: str  # relative to the run's folder
    what: str  # end of a sentence that begins with the path
    remedy: str  # advice, and its cost


@dataclass
class Verification:
    """Result of `verify`."""

    valid: list[str] = field(default_factory=list)  # parts that are as stored, with the files of a folder
    unchecked: list[str] = field(default_factory=list)  # parts that could not be compared, with the reason
    damage: list[Finding] = field(default_factory=list)


def verify(run: Path) -> Verification:
    """Compare every byte that a resumed run, or a reader of the run, relies on. Nothing is changed.

    A run that is training may be verified, too; what it writes meanwhile may look damaged.

    Raises:
        RunError: if it is no run.
    """
    folder = RunFolder.existing(run)
    found = Verification()
    if folder.is_locked():
        found.unchecked.append("a process is training here: what it writes meanwhile may look damaged")
    valid: dict[str, list[str]] = {}
    with validate_contents(folder.path):
        for path, what, remedy in _checks(folder, found.unchecked):
            if what:
                found.damage.append(Finding(path, what, remedy))
            else:
                part, _, name = path.partition("/")
                valid.setdefault(part, []).extend([name] if name else [])
    found.valid = [f"{part}: {', '.join(names)}" if names else part for part, names in valid.items()]
    if any(folder.tensorboard.glob("*")):
        found.unchecked.append("tensorboard: a copy of metrics and videos for TensorBoard, which no run reads")
    return found


def repair(run: Path) -> list[str]:
    """Make a damaged run resumable, without inventing anything.

    Damaged steps of the replay are left out permanently, and damaged checkpoints put aside where a valid one is left.

    Returns:
        What was done and what it costs, in sentences.

    Raises:
        RunError: if another process trains there, or there is no valid checkpoint to continue from.
        ReplayError: if the index of the replay is damaged, or the disk is not writable.
    """
    with RunFolder.hold(run) as folder:
        damage = _checkpoint_damage(folder)
        valid = [path for path, what in damage.items() if not what]
        if not valid:
            raise RunError(f"{run} cannot be repaired: there is no valid checkpoint to continue from.")
        done = []
        for path in (path for path, what in damage.items() if what):
            aside = path.with_name(f"damaged-{path.name}")
            path.rename(aside)
            done.append(f"{path.name} was put aside as {aside.name}.")
        Checkpoints(folder.checkpoints).link_best()
        if valid[-1] != [*damage][-1]:
            done.append(f"The run continues from {valid[-1].name}: later steps are computed again.")
        with validate_contents(valid[-1]):
            if lost := replay.repair(folder.replay, *_stored_steps([read_state(path) for path in valid])):
                done.append(
                    f"{lost:,} damaged steps of the replay left out permanently; from here on results are not "
                    "bit-identical to those without the damage."
                )
        return done


def _checkpoint_damage(folder: RunFolder) -> dict[Path, str]:
    return {path: verify_checkpoint(path) for path in Checkpoints(folder.checkpoints).list()}


def _stored_steps(states: list[dict[str, Any]]) -> tuple[Any, list[Any]]:
    """Return what the steps of the replay look like, and its commit in each checkpoint."""
    return spec_from_json(states[-1]["spec"]).step, [state["training"]["replay"] for state in states]


def _checks(folder: RunFolder, unchecked: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yield each path, its damage (empty if it is as stored), and the remedy; add to what could not be checked."""
    checkpoints = _checkpoint_damage(folder)
    valid = [path for path, what in checkpoints.items() if not what]
    repair = f"`{command_line('verify', folder.path, '--repair')}`"
    for path, what in checkpoints.items():
        remedy = "restore it from a copy; without it there is nothing to continue from"
        if valid:
            later = f", and --resume continues from {valid[-1].name}: later steps are computed again"
            remedy = f"{repair} puts it aside{later if path == [*checkpoints][-1] else ''}"
        yield f"{CHECKPOINTS}/{path.name}", what and f"is damaged: {what}", remedy
    remedy = "nothing: `reverie replay-step` cannot use it any more, and the run does not need it"
    for path in sorted(path for path in folder.failures.glob("update-*") if path.is_dir()):
        what = verify_checkpoint(path)
        yield f"{FAILURES}/{path.name}", what and f"is damaged: {what}", remedy

    states = [read_state(path) for path in valid]
    remedy = "restore it from a copy, unless the run was resumed with other settings and has not saved since"
    yield CONFIG, _damage(_compare_config, folder, states), remedy
    remedy = "nothing: it only says how the run was started, and a resumed run does not need it"
    expected = {"preset", "variant", "starts"}
    yield PROVENANCE, _damage(_compare_json, folder.provenance_path, lambda about: about.keys() == expected), remedy
    if folder.trackers_path.exists():
        remedy = "delete it; a resumed run then starts new runs in its trackers"
        yield TRACKERS, _damage(_compare_json, folder.trackers_path, _are_trackers), remedy
    if not states:
        unchecked.append(f"{METRICS}, {VIDEOS} and {folder.replay.name}: there is no valid checkpoint to compare with")
        return

    counters = states[-1]["training"]["counters"]
    for name, sha256 in counters["videos"].items():
        what = _damage(lambda path=folder.videos / name, sha256=sha256: _compare(read_file(path), sha256))
        yield f"{VIDEOS}/{name}", what, "nothing: a resumed run does not read it"
    if num_later := sum(path.name not in counters["videos"] for path in folder.videos.glob("*")):
        unchecked.append(f"{VIDEOS}: {num_later} files that the newest checkpoint does not list")
    what = _damage(_compare_metrics, folder.metrics, counters, unchecked)
    remedy = "restore it from a copy; learning does not need it, curves and reports do"
    yield METRICS, what, "continue with --resume, which drops them" if what.endswith(LATER_ROWS) else remedy
    if folder.replay.is_file():
        health = replay.verify(folder.replay, *_stored_steps(states))
        remedy = "restore it from a copy; without it only weights are left of the run"
        if health.is_repairable:
            remedy = f"{repair} leaves the damaged episodes out permanently"
        yield from ((folder.replay.name, what, remedy) for what in health.damage or [""])
    elif counters["steps"]:
        remedy = "nothing, if it was removed on purpose; the run can be read, but not resumed"
        yield folder.replay.name, "is missing", remedy


def _damage(check: Callable[..., object], *args: Any) -> str:
    """Return why a file is unreadable; empty if it is not."""
    try:
        check(*args)
    except Unreadable as error:
        return str(error)
    return ""


def _compare(data: bytes, sha256: str) -> None:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Unreadable("is damaged: it does not have its checksum")


def _compare_json(path: Path, is_expected: Callable[[dict[str, Any]], bool]) -> None:
    if not is_expected(loads_checksummed(read_file(path))):
        raise Unreadable("is another file under this name")


def _are_trackers(content: dict[str, Any]) -> bool:
    return all(isinstance(each, dict) and each.keys() == {"id", "steps"} for each in content.values())


def _compare_config(folder: RunFolder, states: list[dict[str, Any]]) -> None:
    data = read_file(folder.config_path)
    try:
        config = folder.saved_config()
    except ConfigError as error:
        raise Unreadable(f"cannot be used: {error}") from error
    if to_toml(config).encode() != data:
        raise Unreadable("was edited or is damaged: reverie formats it differently")
    if states and (changes := diff(config, from_dict(states[-1]["config"]))):
        text = ", ".join(f"{name} {as_text(now)} ({as_text(then)} there)" for name, then, now in changes)
        raise Unreadable(f"is not the configuration of the newest checkpoint: {text}")


def _compare_metrics(path: Path, counters: dict[str, Any], unchecked: list[str]) -> None:
    count: int = counters["rows"]
    lines = read_file(path).splitlines(keepends=True) if count or path.exists() else []
    if len(lines) < count:
        raise Unreadable(f"has {len(lines):,} rows, and had {count:,} at the newest checkpoint")
    _compare(b"".join(lines[:count]), counters["rows_sha256"])
    if later := lines[count:]:
        unchecked.append(f"{METRICS}: rows after the newest checkpoint ({len(later):,}); --resume drops them")
    if later and b'{"step": '.startswith(later[-1][:9]) and not later[-1].endswith(b"\n"):
        later.pop()  # It was cut short: the run was killed, or is writing it.
    if not all(parse_row(line.decode(errors="replace")) for line in later):
        raise Unreadable(f"is damaged: there are {LATER_ROWS}")
