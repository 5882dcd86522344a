"""Names of the files in a run folder.

RUN/
    config.toml       the resolved configuration: that of the start, with all options given on resume since
    about.json        names of preset and variant, and each start: command, versions, commit, machine, precision
    metrics.jsonl     one row of metrics a line
    messages.log      what was printed and stays to be known, with time and agent step
    trackers.json     ids of the run in experiment trackers
    tensorboard/      the metrics for TensorBoard
    checkpoints/      see reverie.runs.checkpoints
    replay.db         see reverie.replay; with replay.db-wal and replay.db-shm while it is open
    validation.db     episodes that are held out, where the run learns from recorded ones
    videos/           open-loop predictions
    failures/         updates that ended the run
    lock.json         process, host and start of the writer, while there is one
    .lock             its lock
"""

from pathlib import Path

from reverie.replay import REPLAY

CONFIG = "config.toml"
PROVENANCE = "about.json"
METRICS = "metrics.jsonl"
MESSAGES = "messages.log"
TRACKERS = "trackers.json"
TENSORBOARD = "tensorboard"
CHECKPOINTS = "checkpoints"
REPLAY_FILES = (REPLAY, f"{REPLAY}-wal", f"{REPLAY}-shm", f"{REPLAY}-journal")
VALIDATION_FILES = tuple(f"validation.db{end}" for end in ("", "-wal", "-shm", "-journal"))
STAGED = ".import"
"""Folder of recorded episodes while they are read, before anything of a run is written."""
VIDEOS = "videos"
FAILURES = "failures"
SWEEP = "sweep.json"
"""In the folder of a sweep, ENV/VARIANT/seed-N above its runs: its plan, and the folders of the planned runs."""
LOCK = ".lock"

CONTENT = (
    CONFIG,
    PROVENANCE,
    METRICS,
    MESSAGES,
    TRACKERS,
    TENSORBOARD,
    CHECKPOINTS,
    *REPLAY_FILES,
    *VALIDATION_FILES,
    VIDEOS,
    FAILURES,
    STAGED,
)
"""Everything that a run writes, but for its lock."""


class RunPaths:
    """Paths of a run's files.

    Args:
        path: the run folder.
        prefix: start of each file's name, as in `seed-0.metrics.jsonl` of exported results.
    """

    def __init__(self, path: Path | str, prefix: str = "") -> None:
        self.path = Path(path)
        self.config_path = self.path / f"{prefix}{CONFIG}"
        self.provenance_path = self.path / f"{prefix}{PROVENANCE}"
        self.metrics = self.path / f"{prefix}{METRICS}"
        self.messages = self.path / MESSAGES
        self.trackers_path = self.path / TRACKERS
        self.tensorboard = self.path / TENSORBOARD
        self.checkpoints = self.path / CHECKPOINTS
        self.replay = self.path / REPLAY
        self.videos = self.path / VIDEOS
        self.failures = self.path / FAILURES
        self.lock_path = self.path / f"{prefix}{LOCK}"
        self.owner_path = self.path / "lock.json"
