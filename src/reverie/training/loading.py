"""Trained agents from disk."""

from pathlib import Path

from reverie.agents import load_agent
from reverie.dreamer import Dreamer
from reverie.training.run_folder import find_run


def load(path: Path | str, device: str = "auto") -> Dreamer:
    """Load a trained agent.

    Args:
        path: a run folder (its newest checkpoint), one of its checkpoints (`RUN/checkpoints/best`), or a folder that
            `reverie.save` wrote.
        device: auto, cpu or cuda.

    Raises:
        RunError: if there is no agent.
        CheckpointError: if it is damaged; a valid checkpoint is offered where there is one.
    """
    return load_agent(find_run(path).checkpoint, device)
