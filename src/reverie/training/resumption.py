"""Resuming a run: checks of its folder before anything is written, and messages about what continues."""

import hashlib
import operator
from pathlib import Path

from reverie.config import Config, as_text, diff
from reverie.errors import CheckpointError, RunError
from reverie.runs.atomic_io import Unreadable, read_file
from reverie.runs.checkpoint import Snapshot, read_state, validate_contents
from reverie.runs.metrics import MetricsFile, MetricsTail, kept_rows
from reverie.runs.run_folder import RunFolder
from reverie.training.counters import Counters
from reverie.training.train_state import TrainState

SIZES = ("world_model.", "behavior.", "exploration.head.", "training.explore")
"""Prefixes of the settings among which those are that the sizes of the networks depend on."""


def read_progress(newest: Path, num_learners: int) -> tuple[int, int | None]:
    """Return the steps at which a run last finished, and its number of CPU threads.

    The steps are 0 if it never did. The threads are None if there is no valid number, or were other learners.
    """
    with validate_contents(newest):
        training = read_state(newest)["training"]
        threads = training["runtime"]["threads"]
        is_same = training["runtime"].get("learners", 1) == num_learners
        is_valid = is_same and type(threads) is int and 0 < threads <= 4096
        return operator.index(training["counters"]["finished_at"]), threads if is_valid else None


def nothing_to_do(done: int, config: Config, saved: Config) -> str:
    """Return a message that a run is finished, and whether other settings were given in vain."""
    wanted = config.training.steps
    steps = f"its {done:,} steps" if wanted == done else f"{done:,} steps, and {wanted:,} were asked for"
    unsaved = ", nor were new settings" if {path for path, _, _ in diff(config, saved)} - {"training.steps"} else ""
    return f"This run has {steps}; nothing was trained or saved{unsaved}. Raise --steps to continue it."


def check_files(folder: RunFolder, snapshot: Snapshot) -> None:
    """Raise RunError if the replay of a run to be resumed is missing, or its metrics are corrupted."""
    if not folder.replay.is_file() or not folder.replay.stat().st_size:
        what = "empty" if folder.replay.is_file() else "missing"
        raise RunError(
            f"{folder.path} cannot be resumed: {folder.replay} is {what}. Restore it from a copy; without it only "
            "the weights are left."
        )
    with validate_contents("The checkpoint"):
        kept_rows(folder.metrics, operator.index(snapshot.state["training"]["counters"]["rows"]))


def restore(state: TrainState, step: int, snapshot: Snapshot, folder: RunFolder, config: Config) -> None:
    """Restore the checkpoint of a step, and put what a user should know first among the messages.

    Raises:
        CheckpointError: if it does not fit the agent, or has other contents than this version writes.
        ReplayError: if the replay is another one, or corrupted.
    """
    changes = diff(config, folder.saved_config())
    try:
        with validate_contents("The checkpoint"):
            num_stored, num_kept = state.restore(snapshot)
    except CheckpointError as error:
        sizes = [f"{path} ({old} there)" for path, old, _ in changes if path.startswith(SIZES)]
        if not sizes:
            raise
        raise CheckpointError(
            f"The run in {folder.path} has networks of other sizes: leave {', '.join(sizes[:3])} as in its "
            "config.toml, or choose another --logdir."
        ) from error
    _, rows = MetricsTail(folder.metrics).read()
    num_later = max([num_stored, *(row["step"] - step for row in rows if isinstance(row["step"], int))])
    state.messages = [
        f"Continuing from step {step:,} of {config.training.steps:,}.{later_steps(num_later, num_kept)}",
        *(f"  {path}: {as_text(new)} (was {as_text(old)})" for path, old, new in changes),
        *state.messages,
    ]


def later_steps(count: int, num_kept: int) -> str:
    """Return a sentence about steps that were taken after the checkpoint, as far as replay and metrics show them."""
    if not count:
        return ""
    if not num_kept:
        return f" {count:,} later steps are collected again."
    if num_kept == count:
        return f" {count:,} later steps are kept from the replay."
    return f" {num_kept:,} of {count:,} later steps are kept from the replay, the others are collected again."


def compare_files(folder: RunFolder, file: MetricsFile, counters: Counters) -> list[str]:
    """Return what has changed in metrics and videos since the checkpoint; the counters then count what is there."""
    messages = []
    if counters.rows_sha256 != file.sha256:
        messages.append(
            f"{folder.metrics} was changed since the checkpoint. Its {file.num_rows:,} rows are kept, where there were "
            f"{counters.rows:,}."
        )
    counters.rows, counters.rows_sha256 = file.num_rows, file.sha256
    for name, sha256 in list(counters.videos.items()):
        path = folder.videos / name
        try:
            is_same = hashlib.sha256(read_file(path)).hexdigest() == sha256
        except Unreadable:
            is_same = False
        if not is_same:
            messages.append(f"{path} is corrupted or gone; training continues.")
            del counters.videos[name]
    return messages
