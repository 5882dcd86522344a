"""Published numbers: scores of humans and other agents, and DreamerV2's own curves (see data/README.md)."""

import csv
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Suite = Literal["atari", "dmc"]
Variant = Literal["schedules", "release"]

VARIANTS: tuple[Variant, ...] = ("schedules", "release")  # DreamerV2 with the paper's schedules, and as released
BASELINES = {"dqn": "DQN", "c51": "C51", "rainbow": "Rainbow", "iqn": "IQN"}
"""Published agents (sticky actions, 200M frames) and their headings."""
AGGREGATES = ("gamer_median", "gamer_mean", "record_mean", "clipped_record_mean")
"""Summaries over games that the paper's Table 1 has."""
STICKY_ACTIONS = 0.25  # every published Atari number was measured with this probability of a repeated action


class Task(NamedTuple):
    """An environment that published numbers exist for."""

    suite: Suite
    name: str  # as in the tables: `montezuma_revenge`, `walker_walk`


class GameScores(NamedTuple):
    """Published final scores of one Atari game; nan where none was published."""

    random: float
    gamer: float
    record: float
    agents: Mapping[str, float]  # `BASELINES`; `VARIANTS`: mean over seeds of each run's mean score from 190M frames on


class PublishedCurve(NamedTuple):
    """Mean and deviation over seeds at environment frames; all [P]."""

    frames: Floats
    mean: Floats
    std: Floats  # divided by n - 1; nan for a single seed
    seeds: NDArray[np.int64]


@cache
def atari_scores() -> Mapping[str, GameScores]:
    """Return the published scores of the 57 games, by the table's names."""
    columns = {name: f"{name}_sticky_2e8" for name in BASELINES} | {name: f"dreamerv2_{name}_200m" for name in VARIANTS}
    found = {}
    for row in _rows("atari_scores.csv"):
        random, gamer, record = (_number(row[column]) for column in ("random", "human_gamer", "human_record"))
        agents = {name: _number(row[column]) for name, column in columns.items()}
        found[row["game"]] = GameScores(random, gamer, record, agents)
    return found


@cache
def paper_table() -> Mapping[str, Mapping[str, float]]:
    """Return the paper's Table 1: by agent, each of `AGGREGATES` over 55 games, rounded to two decimals."""
    rows = {row["agent"].removeprefix("dreamerv2_"): row for row in _rows("paper_table1.csv")}
    return {agent: {kind: float(row[kind]) for kind in AGGREGATES} for agent, row in rows.items()}


@cache
def curves(suite: Suite, variant: Variant) -> Mapping[str, PublishedCurve]:
    """Return DreamerV2's published curves, by the tables' names: of 55 games, or of the control suite from pixels.

    The control suite has one variant only.
    """
    points: dict[str, list[list[float]]] = {}
    for row in _rows("atari_curves.csv" if suite == "atari" else "dmc_vision_curves.csv"):
        if suite == "dmc" or row["variant"] == variant:
            name = row["game" if suite == "atari" else "task"]
            points.setdefault(name, []).append([_number(row[key]) for key in ("frames", "mean", "std", "seeds")])
    found = {}
    for name, values in points.items():
        if not name.startswith("s_normalized_"):  # summaries over tasks
            frames, mean, population, seeds = np.array(sorted(values), np.float64).T
            std = population * np.sqrt(seeds / np.where(seeds > 1, seeds - 1, math.nan))
            found[name] = PublishedCurve(frames, mean, std, seeds.astype(np.int64))
    return found


@cache
def task(environment: str) -> Task | None:
    """Return the published task of an environment's id; None if there is none.

    `ALE/MontezumaRevenge-v5`, or one of the older ids such as `MontezumaRevengeNoFrameskip-v4`, is the Atari game
    `montezuma_revenge`; `dmc/walker-walk`, or shimmy's id, is the task `walker_walk`. Other suites that have games of
    the same name (`MinAtar/Breakout-v1`) are other environments.
    """
    identifier = environment.rpartition(":")[2]
    if dmc := re.fullmatch(r"(?:dmc|dm_control)/([a-z0-9_]+)-([a-z0-9_]+?)(-v\d+)?", identifier):
        return Task("dmc", f"{dmc[1]}_{dmc[2]}".replace("ball_in_cup_", "cup_"))
    older = r"([A-Za-z0-9]+?)(?:Deterministic|NoFrameskip)?-v[04]"
    atari = re.fullmatch(r"ALE/(\w+)-v\d+", identifier) or re.fullmatch(older, identifier)
    name = atari[1].replace("_", "").lower() if atari else ""
    return next((Task("atari", game) for game in atari_scores() if game.replace("_", "") == name), None)


def game_scores(environment: str) -> GameScores | None:
    """Return the published scores of an environment; None if it is not one of the 57 Atari games."""
    found = task(environment)
    return atari_scores()[found.name] if found and found.suite == "atari" else None


def curve(environment: str, variant: Variant) -> PublishedCurve | None:
    """Return DreamerV2's published curve of an environment; None if there is none."""
    found = task(environment)
    return curves(found.suite, variant).get(found.name) if found else None


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (files("reverie.analysis") / "data" / name).open(encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _number(text: str) -> float:
    return float(text) if text else math.nan
