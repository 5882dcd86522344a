"""Checks of a run folder before a run is resumed, and what it holds that the checkpoint did not leave there."""

import hashlib
import operator

from reverie.config import Config
from reverie.errors import RunError
from reverie.runs.atomic_io import Unreadable, read_whole
from reverie.runs.checkpoints import Checkpoints, Snapshot, read_state, understood
from reverie.runs.metrics import kept_rows
from reverie.runs.run_folder import RunFolder, config_changes
from reverie.training.metrics import MetricsWriter
from reverie.training.run_state import LoopState


def finished_steps(folder: RunFolder) -> int:
    """Return the steps at which a run that has a checkpoint was last finished; 0 if it never was.

    Raises:
        CheckpointError: if the newest checkpoint is damaged.
    """
    newest = Checkpoints(folder.checkpoints).latest()
    assert newest is not None
    with understood(newest):
        return operator.index(read_state(newest)["loop"]["state"]["finished_at"])


def nothing_to_do(done: int, config: Config, saved: Config) -> str:
    """Say that a run is finished, and which settings were given in vain.

    Args:
        done: steps of the run.
        config: what was asked for.
        saved: the run's own.
    """
    wanted = config.training.steps
    steps = f"its {done:,} steps" if wanted == done else f"{done:,} steps, and {wanted:,} were asked for"
    names = [path for path in config_changes(saved, config) if path != "training.steps"]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    unsaved = f", nor were new settings ({', '.join(names[:3])}{more})" if names else ""
    return f"This run has {steps}; nothing was trained or saved{unsaved}. Raise --steps to continue it."


def check_files(folder: RunFolder, snapshot: Snapshot) -> None:
    """Check what a resumed run reads besides its checkpoint, before anything is written.

    Raises:
        RunError: if the replay is missing, or the metrics are damaged.
    """
    if not folder.replay.is_file() or not folder.replay.stat().st_size:
        what = "empty" if folder.replay.is_file() else "missing"
        raise RunError(
            f"{folder.path} cannot be resumed: {folder.replay} is {what}. Restore it from a copy; without it only "
            "the weights are left."
        )
    with understood("The checkpoint"):
        kept_rows(folder.metrics, operator.index(snapshot.state["loop"]["state"]["rows"]))


def compare_files(folder: RunFolder, state: LoopState, writer: MetricsWriter, step: int) -> list[str]:
    """Compare metrics and videos with what the checkpoint counted; the state then counts what is there.

    Args:
        folder: of the run.
        state: of the run that is resumed.
        writer: of the metrics, opened at the checkpoint.
        step: of the checkpoint.

    Returns:
        What the user should be told, in sentences.
    """
    told = []
    if writer.dropped:
        told.append(
            f"The run had gone on after this checkpoint of step {step:,}: what came then is computed again, and "
            f"its {writer.dropped:,} rows of metrics are dropped."
        )
    if state.rows_sha256 not in ("", writer.sha256):
        told.append(
            f"{folder.metrics} was changed since the checkpoint: the run goes on and keeps the {writer.rows:,} rows "
            f"that it found there, where there were {state.rows:,}."
        )
    state.rows, state.rows_sha256 = writer.rows, writer.sha256
    for name in [name for name, sha256 in state.videos.items() if _sha256(folder, name) != sha256]:
        told.append(f"{folder.videos / name} is damaged or gone; the run does not need it.")
        del state.videos[name]
    return told


def _sha256(folder: RunFolder, video: str) -> str | None:
    try:
        return hashlib.sha256(read_whole(folder.videos / video)).hexdigest()
    except Unreadable:
        return None
