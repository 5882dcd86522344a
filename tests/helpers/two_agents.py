"""Runs of two agents on two games, with known scores."""

from collections.abc import Callable
from pathlib import Path

from tests.helpers.fake_runs import write_run

BOXING, PONG = "ALE/Boxing-v5", "ALE/Pong-v5"


def level(value: float) -> Callable[[int], float]:
    """Return a learning curve that is `value` everywhere."""
    return lambda frames: value


def write_two_agents(folder: Path) -> None:
    """Write runs that score 6.1, 12.1, 18.1 and 3.1 three times in Boxing, 14.6 and -20.7 three times in Pong."""
    for seed in range(3):
        boxing, pong = folder / "boxing", folder / "pong"
        few = {"seed": seed, "planned": 2_000_000, "every": 100_000}
        write_run(boxing / f"full-{seed}", env=BOXING, evaluations=level(6.1 + 6 * seed), **few)
        write_run(boxing / f"gauss-{seed}", env=BOXING, variant="gaussian-latents", evaluations=level(3.1), **few)
        write_run(pong / f"full-{seed}", env=PONG, evaluations=level(14.6), **few)
        write_run(pong / f"gauss-{seed}", env=PONG, variant="gaussian-latents", evaluations=level(-20.7), **few)
