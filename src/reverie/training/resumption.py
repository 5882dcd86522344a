"""Resuming a run: checks of its folder before anything is written, and messages about what continues."""

import hashlib
import operator
from dataclasses import dataclass

from typing_extensions import override

from reverie.config import Config, as_text, diff, to_dict
from reverie.errors import CheckpointError, RunError
from reverie.runs.atomic_io import Unreadable, read_file
from reverie.runs.checkpoint import Snapshot, read_state, validate_contents
from reverie.runs.checkpoints import Checkpoints
from reverie.runs.metrics import MetricsFile, kept_rows
from reverie.runs.provenance import Launch, record_launch, recorded_names
from reverie.runs.run_folder import RunFolder
from reverie.training.callbacks import Callback, Run
from reverie.training.loggers import Loggers, RunInfo
from reverie.training.train_state import TrainState

SIZES = ("world_model.", "behavior.")
"""Prefixes of the settings among which those are that the sizes of the networks depend on."""


def finished_steps(folder: RunFolder) -> int:
    """Return the steps at which a run that has a checkpoint last finished; 0 if it never did."""
    newest = Checkpoints(folder.checkpoints).latest()
    assert newest is not None
    with validate_contents(newest):
        return operator.index(read_state(newest)["training"]["counters"]["finished_at"])


def nothing_to_do(done: int, config: Config, saved: Config) -> str:
    """Return a message that a run is finished, with the settings in which the given ones differ in vain."""
    wanted = config.training.steps
    steps = f"its {done:,} steps" if wanted == done else f"{done:,} steps, and {wanted:,} were asked for"
    names = [path for path, _, _ in diff(config, saved) if path != "training.steps"]
    unsaved = f", nor were new settings ({_first_three(names)})" if names else ""
    return f"This run has {steps}; nothing was trained or saved{unsaved}. Raise --steps to continue it."


def _first_three(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


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


def restore(state: TrainState, snapshot: Snapshot, folder: RunFolder, config: Config) -> None:
    """Restore a checkpoint, and put what a user should know first among the messages.

    Raises:
        CheckpointError: if it does not fit the agent, or has other contents than this version writes.
        ReplayError: if the replay is another one, or corrupted.
    """
    changes = diff(config, folder.saved_config())
    try:
        with validate_contents("The checkpoint"):
            state.restore(snapshot)
    except CheckpointError as error:
        sizes = [f"{path} ({old} there)" for path, old, _ in changes if path.startswith(SIZES)]
        if not sizes:
            raise
        raise CheckpointError(
            f"The run in {folder.path} has networks of other sizes: leave {_first_three(sizes)} as in its config.toml, "
            "or choose another --logdir."
        ) from error
    newest, counters = Checkpoints(folder.checkpoints).latest(), state.counters
    assert newest is not None
    state.messages = [
        f"Resuming from {newest.name}: step {counters.steps:,} of {config.training.steps:,}, {counters.updates:,} "
        "updates.",
        *(f"  {path}: {as_text(new)} (was {as_text(old)})" for path, old, new in changes),
        *state.messages,
    ]


@dataclass(eq=False)
class Opening(Callback):
    """Compares the files of a resumed run with its checkpoint, records the launch, and opens the loggers."""

    folder: RunFolder
    launch: Launch
    state: TrainState
    """Its messages are completed and printed; its counters then count what is there."""
    file: MetricsFile
    loggers: Loggers
    is_quiet: bool

    @override
    def on_start(self, run: Run) -> None:
        counters = run.counters
        if self.folder.resumed:
            self.state.messages += self._compare_metrics()
            for name in [name for name, sha256 in counters.videos.items() if self._sha256(name) != sha256]:
                self.state.messages.append(f"{self.folder.videos / name} is corrupted or gone; training continues.")
                del counters.videos[name]
        record_launch(run.path, self.launch, counters.steps, run.config)
        self.state.pop_messages(run.log)
        preset, variant = recorded_names(run.path, self.launch)
        resumed_at = counters.steps if self.folder.resumed else None
        name, env = run.path.resolve().name, run.config.env.name
        info = RunInfo(name, run.path, env, preset, variant, self.launch.command, resumed_at, self.is_quiet)
        self.loggers.open(info, to_dict(run.config))

    def _compare_metrics(self) -> list[str]:
        file, counters, messages = self.file, self.state.counters, []
        if file.num_dropped:
            messages.append(
                f"The run had continued after this checkpoint. Its {file.num_dropped:,} later rows of metrics are "
                "dropped and computed again."
            )
        if counters.rows_sha256 != file.sha256:
            messages.append(
                f"{self.folder.metrics} was changed since the checkpoint. Its {file.num_rows:,} rows are kept, where "
                f"there were {counters.rows:,}."
            )
        counters.rows, counters.rows_sha256 = file.num_rows, file.sha256
        return messages

    def _sha256(self, video: str) -> str | None:
        try:
            return hashlib.sha256(read_file(self.folder.videos / video)).hexdigest()
        except Unreadable:
            return None
