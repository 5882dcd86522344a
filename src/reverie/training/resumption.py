"""What a resumed run finds in its folder that its checkpoint did not leave there."""

import hashlib

from reverie.files import Unreadable, read_whole
from reverie.training.metrics import MetricsWriter
from reverie.training.run_folder import RunFolder
from reverie.training.run_state import LoopState


def compare_files(folder: RunFolder, state: LoopState, writer: MetricsWriter, step: int) -> list[str]:
    """Compare metrics and videos with what the checkpoint counted; the state then counts what is there.

    Args:
        folder: of the run.
        state: of the run that goes on.
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
