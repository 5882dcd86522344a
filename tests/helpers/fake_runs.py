"""Run folders with known numbers, for tests of what reads them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reverie.config import preset as preset_config
from reverie.config import to_toml, with_variant


def write_run(
    path: Path,
    *,
    env: str = "ALE/Boxing-v5",
    preset: str = "atari-small",
    variant: str = "full",
    seed: int = 0,
    planned: int = 1_000_000,
    reached: int | None = None,
    evaluations: Callable[[int], float] | None = lambda frames: 0.0,
    training: Callable[[int], float] | None = None,
    every: int = 50_000,
    about: bool = True,
    **settings: Any,
) -> Path:
    """Write a run with a row every so many frames.

    Args:
        path: its folder.
        env: Gymnasium id.
        preset: where its settings start from.
        variant: on top of it.
        seed: of the run.
        planned: frames.
        reached: frames of the last row; None is all.
        evaluations: return by frames; None for a run without.
        training: likewise, of its training episodes.
        every: frames between rows.
        about: whether it has an about.json.
        settings: others, by path with `__` for the dot.
    """
    config = with_variant(preset_config(preset), variant).for_env(env)
    repeat = config.env.action_repeat
    changes = {name.replace("__", "."): value for name, value in settings.items()}
    config = config.override(seed=seed, steps=planned // repeat, **changes)
    path.mkdir(parents=True)
    (path / "config.toml").write_text(to_toml(config))
    rows: list[dict[str, float]] = []
    for frames in range(every, (planned if reached is None else reached) + 1, every):
        row: dict[str, float] = {"step": frames // repeat, "frames": frames, "time": frames / 100, "updates": 1}
        if evaluations is not None:
            row["eval/return"] = evaluations(frames)
        if training is not None:
            row["episode/return"] = training(frames)
        rows.append(row)
    write_rows(path, rows)
    if about:
        start = {
            "time": "2026-01-02T03:04:05+00:00",
            "step": 0,
            "command": f"reverie train {env} --preset {preset} --seed {seed} --logdir {path.name}",
            "reverie": "0.1.0",
            "commit": "0123abc",
            "torch": "2.13.0",
            "python": "3.12.3",
            "cpu": "A processor",
            "threads": 1,
        }
        named = None if variant == "full" else variant
        (path / "about.json").write_text(json.dumps({"preset": preset, "variant": named, "starts": [start]}))
    return path


def write_rows(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """Replace the run's metrics."""
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
