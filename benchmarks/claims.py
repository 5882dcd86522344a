"""Claims: numbers of the documents with their computation from `results/`; see figures.py."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arithmetic import count as arithmetic
from reverie.analysis.ablations import ARTICLE, Comparison, compare
from reverie.analysis.published import AGGREGATES, GameScores, atari_scores, curve, game_scores, paper_table
from reverie.analysis.runs import Run, read_run
from reverie.analysis.scores import aggregate, normalised_scores, published_scores
from reverie.config import PRESETS

RESULTS = Path(__file__).parents[1] / "results"
AGENTS = ("full", "no-kl-balancing", "straight-through-only", "gaussian-latents", "no-image-gradients")
PLACES = {
    "pages": "Pages of the database",
    "rows": "Rows",
    "log": "Write-ahead log",
    "checkpoints": "Checkpoints",
    "metrics": "Metrics",
    "other": "Other files",
}
GROWING = {
    "memory_mib": "Memory, both processes, MiB",
    "open_files": "Open files",
    "threads": "Threads",
    "disk_mib": "Disk without metrics and videos, MiB",
    "records_mib": "Metrics and videos, MiB",
}
NORMAL = 0.5 * math.log(2 * math.pi)
"""Constant of a loss of unit variance."""


@dataclass(frozen=True)
class Rounded:
    """A value that is printed to a multiple of a unit, where the last digit does not tell it."""

    value: float
    unit: float


Value = float | str | Rounded | None
"""Number, verdict; None for a number without a source."""


@dataclass(frozen=True)
class Claim:
    """Numbers of a document, by their place and by computation."""

    place: str | tuple[str, ...]
    """Text with {} for each number; or the start of a table's header, and the first cells of a row."""
    values: tuple[Value, ...]
    document: str = ""
    tail: int = 0
    """If set, only so many of the row's last numbers are claimed."""


def text(template: str, *values: Value) -> Claim:
    """Claim numbers of running text; lines may break at any space."""
    return Claim(template, values)


def row(header: str, *label_and_values: Any) -> Claim:
    """Claim every number and verdict of a table's row: its first cells as strings, then the values in one list."""
    *label, values = label_and_values
    return Claim((header, *label), tuple(values))


# Reading results


@cache
def run(name: str) -> Run:
    return read_run(RESULTS / f"{name}.metrics.jsonl")


def last(name: str, key: str) -> float:
    """Return the last value of a metric."""
    return float(next(line[key] for line in reversed(run(name).rows) if key in line))


def at(name: str, frames: float, key: str = "eval/return") -> float:
    """Return the last value of a metric at some number of frames."""
    return float([line[key] for line in run(name).rows if line["frames"] == frames and key in line][-1])


def between(name: str, low: float, high: float) -> list[float]:
    """Return the returns in training of the rows in (low, high] frames."""
    return [r["episode/return"] for r in run(name).rows if "episode/return" in r and low < r["frames"] <= high]


def minutes(name: str) -> float:
    return last(name, "time") / 60


def entropy(name: str, actions: int) -> float:
    """Return the policy's last entropy in percent of its largest."""
    return 100 * last(name, "actor/entropy") / math.log(actions)


def final(name: str) -> float:
    score = run(name).score_at(run(name).frames_planned)
    assert score is not None and score.source == "evaluations"
    return score.value


@cache
def jsonl(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RESULTS / name).read_text(encoding="utf-8").splitlines()]


@cache
def evaluation(name: str) -> dict[str, Any]:
    path = RESULTS / name / "eval.json" if (RESULTS / name).is_dir() else RESULTS / f"{name}.eval.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def returns(name: str) -> list[float]:
    """Return the returns of an evaluation's episodes."""
    return [episode["return"] for episode in evaluation(name)["episodes"]]


def evaluated(name: str) -> float:
    """Return the agent steps after which an evaluation was made."""
    return float(evaluation(name)["agent_steps"])


def deviation(name: str) -> tuple[float, float]:
    """Return mean and sample standard deviation of an evaluation."""
    return mean(returns(name)), float(np.std(returns(name), ddof=1))


def pick(name: str, **conditions: Any) -> dict[str, Any]:
    """Return the one row of a jsonl file with these values."""
    (found,) = [line for line in jsonl(name) if all(line.get(key) == value for key, value in conditions.items())]
    return found


def published(game: str, frames: float = 1e6) -> tuple[float, float]:
    """Return mean and deviation of DreamerV2 as released, after some number of frames."""
    line = curve(f"ALE/{game}-v5", "release")
    assert line is not None
    index = int(np.argmin(abs(line.frames - frames)))
    return float(line.mean[index]), float(line.std[index])


def known_scores(game: str) -> GameScores:
    found = game_scores(f"ALE/{game}-v5")
    assert found is not None
    return found


def spread(line: dict[str, Any], name: str, factor: float = 1.0) -> list[float]:
    """Return median and quartiles."""
    return [factor * x for x in (line[f"{name}_median"], *line[f"{name}_quartiles"])]


# What the documents say


def registry() -> list[Claim]:
    """Return every claim."""
    documents = {
        "docs/results.md": (
            article,
            minatar_ablations,
            boxing_ablations,
            minatar,
            small_tasks,
            boxing,
            corrected,
            trials,
        ),
        "README.md": (readme,),
        "docs/performance.md": (peers, gains, speed, collection),
        "docs/durability.md": (durability,),
        "docs/variants.md": (variants,),
        "docs/reporting.md": (table_1,),
        "CHANGELOG.md": (changelog,),
    }
    return [replace(claim, document=name) for name, parts in documents.items() for part in parts for claim in part()]


MINATAR = "ablations/MinAtar-{}-v1-{}-seed-{}"
BOXING = "ablations/boxing/ALE-Boxing-v5-{}-seed-{}"
LAPTOP = "boxing/laptop/seed-{}"
ATARI = {"krull": "atari/Krull-seed0", "up": "atari/UpNDown-seed0"}


def invaders(agent: str) -> list[float]:
    return [final(MINATAR.format("SpaceInvaders", agent, seed)) for seed in range(3)]


def breakout(agent: str) -> float:
    return final(MINATAR.format("Breakout", agent, 0))


def boxers(agent: str) -> list[float]:
    return [final(BOXING.format(agent, seed)) for seed in range(3 if agent == "full" else 2)]


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def welch(comparison: Comparison) -> tuple[float, float]:
    assert comparison.interval is not None
    return comparison.interval


def proof(env: str, agent: str) -> float:
    return float(pick("ablated_proofs.jsonl", env=env, variant=agent)["score"])


def tasks(agent: str) -> list[float]:
    """Return an agent's scores in Catch, Recall, Space Invaders, Breakout and Boxing."""
    atari = [mean(invaders(agent)), breakout(agent), mean(boxers(agent))]
    return [proof("Catch", agent), proof("Recall", agent), *atari]


def aggregates(name: str) -> list[float]:
    return [aggregate(published_scores(name))[key] for key in AGGREGATES]


def printed_aggregates(name: str) -> list[float]:
    return [paper_table()[name][key] for key in AGGREGATES]


def article() -> Iterator[Claim]:
    paper, ours = ([f(n) for n in ("schedules", "release")] for f in (printed_aggregates, aggregates))
    yield text("{} / {} / {} / {} with schedules and {} / {} / {} / {} as released in the paper", *paper[0], *paper[1])
    yield text("{} / {} / {} / {} and {} / {} / {} / {} recomputed", *ours[0], *ours[1])
    full, gauss, plain_kl, straight, blind = map(tasks, ("full", AGENTS[3], AGENTS[1], AGENTS[2], AGENTS[4]))
    order = (
        "Catch {} and Recall {} without, {} and {} with them; Space Invaders {} and {}; Breakout {} and {} (one seed)"
    )
    pairs = [x for both in zip(blind[2:], full[2:], strict=True) for x in both]
    yield text(f"{order}; Boxing {{}} and {{}}", *blind[:2], *full[:2], *pairs)
    yield text("Catch {}, Recall {}, Space Invaders {}, Breakout {}, Boxing {} with Gaussian ones", *gauss)
    yield text(
        "Catch {}, Recall {}, Space Invaders {}, Breakout {} with the plain one; Boxing {} and {}", *plain_kl, full[4]
    )
    yield text("Catch {}, Recall {}, Space Invaders {}, Breakout {}; Boxing {} and {}", *straight, full[4])
    for variant, words in (("no-reward-gradients", "without"), ("reinforce-only", "| Yes, likewise")):
        yield text(f"Catch {{}}, Recall {{}} {words}", proof("Catch", variant), proof("Recall", variant))
    yield text(
        '"No Policy ST") {}, dynamics gradients alone {}, plain KL {}, no image gradients {}, Gaussian latents {} '
        "on Boxing",
        *(tasks[4] for tasks in (full, straight, plain_kl, blind, gauss)),
    )
    percent = [100 * (x[1] / y[1] - 1) for x, y in zip(ours, paper, strict=True)]
    yield text("gamer means {} % higher, the record's within rounding but for a clipped {}", mean(percent), ours[0][3])
    yield text("(DreamerV2 as released, full size: {} ± {} over 8 seeds", *published("Boxing"))
    yield text(
        "| {} ± {} after 1M frames and {} minutes, {} ± {} after {} frames and {} minutes; a seventh",
        *deviation(LAPTOP.format(1)),
        minutes(LAPTOP.format(1)),
        *deviation(LAPTOP.format(0)),
        4 * evaluated(LAPTOP.format(0)),
        minutes(LAPTOP.format(0)),
    )
    yield text(
        "| Krull {} ± {} (DreamerV2 as released, 8 seeds, after 1M frames: {}), Up'n Down {} ± {} ({}), after {} "
        "frames and {} and {} minutes",
        *deviation(ATARI["krull"]),
        published("Krull")[0],
        *deviation(ATARI["up"]),
        published("UpNDown")[0],
        last(ATARI["up"], "frames"),
        *map(minutes, ATARI.values()),
    )
    yield text("Space Invaders {} after {} frames; published", deviation(SHOOTER)[0], last(SHOOTER, "frames"))
    cpu = [line["cpu_seconds"] for line in jsonl("ablated_proofs.jsonl")]
    yield text("one thread, commit 605f2ba, {} to {} seconds of CPU time each", min(cpu), max(cpu))
    for variant in (*AGENTS, "no-reward-gradients", "reinforce-only", "no-gru-norm"):
        yield row("Agent | Catch", variant, [proof("Catch", variant), proof("Recall", variant)])


def minatar_ablations() -> Iterator[Claim]:
    full = invaders("full")
    yield row("Agent | Seed 0", "full", [*full, mean(full)])
    for agent in AGENTS[1:]:
        found = compare(full, invaders(agent))
        values = [*found.ablation, mean(found.ablation), *welch(found), found.paper, found.supported]
        yield row("Agent | Seed 0", agent, values)
    name = MINATAR.format("SpaceInvaders", "full", 0)
    yield text("from pixels: {} frames and {} updates of batches", last(name, "frames"), last(name, "updates"))
    frames = (4400, 6800, 8000, 9200, 10400)
    yield row("Agent | 4.4k", "Agent", [*frames, None, None])
    for agent in AGENTS:
        name = MINATAR.format("Breakout", agent, 0)
        verdict = [] if agent == "full" else [compare([breakout("full")], [breakout(agent)]).paper]
        yield row("Agent | 4.4k", agent, [*(at(name, x) for x in frames), breakout(agent), *verdict])
    low, high = (f(minutes(MINATAR.format("Breakout", agent, 0)) for agent in AGENTS) for f in (min, max))
    yield text("beside other work, {} to {} minutes a cell", low, high)
    yield text("the article finds it worse in {} of {} games", ARTICLE[AGENTS[1]].worse, sum(ARTICLE[AGENTS[1]]))
    straight, plain_kl = (mean(invaders(AGENTS[i])) for i in (2, 1))
    yield text("by the paper's rule, {} of {}, which Welch's interval", straight, mean(full))
    yield text("better in Breakout by {} % (one seed)", 100 * (1 - breakout("full") / breakout(AGENTS[2])))
    yield text("by {} % of the full agent's score, which", 100 * (1 - plain_kl / mean(full)))
    games = [f"minatar/{game}-v1-evening-seed0" for game in ("Freeway", "Asterix", "Seaquest")]
    times = [minutes(game) for game in games]
    yield text("seed 0, {} to {} minutes each (`*-evening-seed0.*`", min(times), max(times))
    freeway = run(games[0]).curve("eval/return").values
    yield text("score between {} and {} from one evaluation", min(freeway), max(freeway))
    others = [breakout("full"), mean(full), *map(final, games)]
    yield row("| Breakout | Space Invaders", "full, mean of the last tenth", others)
    cells = [MINATAR.format("Breakout", "full", 0), MINATAR.format("SpaceInvaders", "full", 0), *games]
    shares = [entropy(name, actions) for name, actions in zip(cells, (3, 4, 3, 5, 6), strict=True)]
    shares.insert(2, 0.0)
    yield row("| Breakout | Space Invaders", "Entropy of the policy, of its largest", [*shares[:2], None, *shares[3:]])


def boxing_ablations() -> Iterator[Claim]:
    counts = ARTICLE["reinforce-only"]
    yield text("its full agent on {} of {} games and worse on {}.", counts.better, sum(counts), counts.worse)
    frames = (400e3, 464e3, 528e3, 560e3, 592e3, 624e3, 656e3)
    yield row("Agent | Seed | 400k", "Agent", "Seed", frames)
    for agent in AGENTS:
        for seed, score in enumerate(boxers(agent)):
            name = BOXING.format(agent, seed)
            yield row("Agent | Seed | 400k", agent, str(seed), [*(at(name, x) for x in frames), score])
    ends = {agent: [BOXING.format(agent, seed) for seed in range(len(boxers(agent)))] for agent in AGENTS}
    full, plain_kl, straight, gauss, blind = ends.values()
    yield text("bf16, {} minutes each, one thread each", mean([minutes(full[0]), minutes(blind[0])]))
    yield text("float32, {} and {} minutes of one thread", minutes(gauss[0]), minutes(straight[0]))
    others = [minutes(x) for x in (full[1], *plain_kl, straight[1], gauss[1], blind[1])]
    yield text("The others: bf16, {} to {} minutes", min(others), max(others))
    yield text("with `seeds = [2]`: {} minutes", minutes(full[2]))
    for name in blind:
        yield text("(a KL of {} nats in both, where the full agent has {})", last(name, "model/kl"), mean_kl(full))
        yield text("the policy stays at {} % of its largest entropy. With", entropy(name, 18))
    loss = [last(name, "model/reward_loss") - NORMAL for name in (*gauss, full[0])]
    for name in gauss:
        yield text("(a KL of {} nats in both; the reward loss ends", last(name, "model/kl"))
    yield text("ends {} and {} above its constant, {} with the full agent)", *loss)
    yield text("largest entropy ({} and {} %), and still", *(entropy(name, 18) for name in gauss))
    yield text(
        "frames: {} in training with sampled actions (seed 0), {} and {} with the most likely ones",
        last(gauss[0], "episode/return"),
        *boxers(AGENTS[3]),
    )
    yield text("with a KL of {} nats instead of {} and a policy", mean_kl(plain_kl), mean_kl(full))
    kept = [sorted(last(name, "actor/entropy") for name in names) for names in (plain_kl, full, straight)]
    yield text("({} to {} nats instead of {} to {})", kept[0][0], kept[0][-1], kept[1][0], kept[1][-1])
    yield text("most of its entropy ({} to {} nats)", kept[2][0], kept[2][-1])
    yield text("almost as well: {} and {}, within", *boxers(AGENTS[2]))
    intervals = [welch(compare(boxers("full"), boxers(AGENTS[i]))) for i in (4, 3, 1, 2)]
    template = (
        "{} to {} for no image gradients and {} to {} for Gaussian latents, whose verdicts are **supported**, and "
    )
    template += "{} to {} for the plain KL and {} to {} for dynamics gradients alone"
    yield text(template, *(end for interval in intervals for end in interval))


def mean_kl(names: Sequence[str]) -> float:
    return mean([last(name, "model/kl") for name in names])


def corrected() -> Iterator[Claim]:
    names = [f"boxing/outputs-fp32/seed-{seed}" for seed in (0, 1)]
    for seed, name in enumerate(names):
        values = [at(name, 1000 * frames) for frames in (400, 464, 528, 560, 592, 624, 656)]
        yield row("Seed | 400k | 464k", str(seed), [*values, final(name), *deviation(name)])
    yield text("in bf16, {} and {} minutes of one thread of an Intel Xeon with AMX next to", *map(minutes, names))
    before, now = boxers("full"), [final(name) for name in names]
    yield text("The three seeds before have {}, {} and {}: by the paper's rule", *before)
    low, high = welch(compare(before, now))
    yield text(
        "worse, {} of {}, and Welch's {} % interval of the difference, {} to {},",
        mean(now),
        mean(before),
        95,
        low,
        high,
    )


SHOOTER, BRICKS = "minatar/SpaceInvaders-v1-seed0", "minatar/Breakout-v1-seed0"


def minatar() -> Iterator[Claim]:
    updates = last(BRICKS, "updates")
    yield text(
        "{} frames, {} updates, {} minutes on one thread of a busy machine",
        last(BRICKS, "frames"),
        updates,
        minutes(BRICKS),
    )
    for name, frames in ((BRICKS, (2, 12, 32, 52, 72, 100)), (SHOOTER, (2, 12, 22, 32, 42, 52, 62, 72, 82, 87))):
        header = "Frames | 2k | 12k | " + ("32k" if name == BRICKS else "22k")
        yield row(header, "Return, mode actions, 10 episodes", [at(name, 1000 * x) for x in frames])
        yield row(header, "Frames", [1000 * x for x in frames])
    yield text("After training, 50 episodes: **{} ± {}**. DQN", *deviation(BRICKS))
    yield text(
        "fell to {} % of its maximum within {} frames ({} % at the end)",
        100 * at(BRICKS, 25_000, "actor/entropy") / math.log(3),
        None,
        entropy(BRICKS, 3),
    )
    entropic = "minatar/Breakout-v1-entropy-seed0"
    yield text(
        "cure: {} ± {} over {} episodes at {} frames", *deviation(entropic), len(returns(entropic)), evaluated(entropic)
    )
    yield text("stopped at {} frames and some {} updates", evaluated(SHOOTER), Rounded(last(SHOOTER, "updates"), 200))
    yield text("After training, 50 episodes: **{} ± {}**, still rising", *deviation(SHOOTER))
    yield row("Agent | Frames | Seeds | Score", "this run", [last(SHOOTER, "frames"), None, deviation(SHOOTER)[0]])
    repeat, large = "minatar/SpaceInvaders-v1-bf16-seed0", "minatar/SpaceInvaders-v1-large-seed0"
    yield text(
        "{} frames in {} minutes of one core; `SpaceInvaders-v1-bf16-seed0.*`), follows the same curve: {} ± {}",
        evaluated(repeat),
        minutes(repeat),
        *deviation(repeat),
    )
    yield text(
        "**{} ± {}** over 50 episodes after {} frames, {} updates and {} minutes",
        *deviation(large),
        evaluated(large),
        last(large, "updates"),
        None,
    )
    labels = "first run, float32", "the same in bf16", "4.7M parameters, rewards weighted 20 times, KL scale 0.5"
    for label, name in zip(labels, (SHOOTER, repeat, large), strict=True):
        values = [mean(between(name, 1e3 * low, 1e3 * high)) for low, high in ((10, 14), (20, 24), (36, 40))]
        yield row("Return in training, mean of", label, values)
    trial = "minatar/Asterix-v1-trial"
    yield text(
        "given up after {} frames at {}, which", Rounded(last(trial, "frames"), 2000), last(trial, "eval/return")
    )
    yield text("the policy kept {} % of its largest entropy, and", entropy(trial, 5))


def small_tasks() -> Iterator[Claim]:
    name = "learning_proofs.jsonl"
    for env in ("Catch", "Recall"):
        found = [pick(name, env=env, cut=cut, commit="a34c9ec") for cut in ("nothing", "actor", "kl")]
        values = [found[0]["random"], found[0]["best"], *(line["score"] for line in found)]
        yield row("Environment | Random | Optimum", env, values)
    fast = [
        pick(name, env=env, commit="27a2176", precision=kind)
        for kind in ("bf16", "fp32")
        for env in ("Catch", "Recall")
    ]
    cpu = Rounded(mean([line["cpu_seconds"] for line in fast]), 10)
    values = [*(line["score"] for line in fast[:2]), cpu]
    yield text("Catch scores {} and Recall {} in either precision, in some {} seconds", *values)
    values = [line["score"] for line in fast[2:]]
    yield text("Catch scores {} and Recall {} in either precision", *values)
    emulated, plain_proof = pick(name, commit="8072fae"), pick(name, commit="240568a")
    newest = jsonl(name)[-4:]
    yield text(
        "{} and {} in either precision, in {} to {} seconds of CPU time each",
        *(line["score"] for line in newest[:2]),
        min(line["cpu_seconds"] for line in newest),
        max(line["cpu_seconds"] for line in newest),
    )
    yield text(
        "takes {} seconds of CPU time and scores {}, in float32 {} seconds and {}, same seed",
        *(line[key] for line in (emulated, plain_proof) for key in ("cpu_seconds", "score")),
    )
    control = {
        task: [f"classic-control/{task}-v1-seed{seed}" for seed in range(3)] for task in ("CartPole", "Pendulum")
    }
    for seed in range(3):
        values = [x for names in control.values() for x in deviation(names[seed])]
        yield row("Seed | CartPole", str(seed), values)
    carts, poles = ([minutes(name) for name in names] for names in control.values())
    yield text(
        "within {} to {} minutes on the clock, sharing cores with others, and Pendulum's within {}, {} and {}",
        min(carts),
        max(carts),
        *poles,
    )
    yield text(
        "Both take {} agent steps and {} updates with",
        *(last(control["CartPole"][0], key) for key in ("step", "updates")),
    )
    first = [min(f for f, v in zip(*curve_of(name), strict=True) if v == 500) for name in control["CartPole"]]
    yield text("first balances for all 500 steps at {} to {} steps", min(first), max(first))
    settled = [max(f for f, v in zip(*curve_of(name), strict=True) if v < 500) + 1000 for name in control["CartPole"]]
    yield text("From {} steps on, every evaluation", max(settled))


def curve_of(name: str) -> tuple[list[float], list[float]]:
    line = run(name).curve("eval/return")
    return list(line.frames), list(line.values)


def boxing() -> Iterator[Claim]:
    first, second = (LAPTOP.format(seed) for seed in (0, 1))
    yield text(
        "seed 1: **{} ± {}** over 20 episodes with mode actions (from {} to {}) after",
        *deviation(second),
        min(returns(second)),
        max(returns(second)),
    )
    yield text("{} minutes on one core of an Intel Xeon with AMX, in bf16", minutes(second))
    yield text(
        "has {} ± {} there at full size (8 seeds; its deviation is over seeds, ours over episodes of one seed), a "
        "human gamer {}, random play {}.",
        *published("Boxing"),
        known_scores("Boxing").gamer,
        known_scores("Boxing").random,
    )
    yield text("{} updates of batches of 10x16", last(second, "updates"))
    training: dict[int, tuple[int, ...]] = {400: (), 480: (460,), 560: (516, 572), 640: (628, 632), 720: (688, 744)}
    training |= {800: (796, 800), 880: (852, 856, 860), 960: (908, 912, 916), 1000: (964, 968, 972)}
    for frames, rows in training.items():
        label = "1M" if frames == 1000 else f"{frames}k"
        after = next(r for r in run(second).rows if r["frames"] > 1e3 * frames or r["frames"] == 1e6)
        values = [at(second, 1e3 * frames, key) for key in ("time", "updates")]
        values[0] /= 60
        if frames == 400:  # the row is written after 9,000 updates; the agent's first step adds two
            values = [values[0], at(second, 404e3, "updates") - 125, values[1]]
        values.append(after["actor/entropy"])
        rewards = [at(second, 1e3 * x, "episode/return") for x in rows] or between(second, 0, 4e5)[-1:]
        if len(rows) == 3:
            rewards += [1e3 * rows[0], 1e3 * rows[-1]]
        elif rows:
            rewards = [x for reward, k in zip(rewards, rows, strict=True) for x in (reward, 1e3 * k)]
        yield row("Frames | Minutes | Updates", label, [*values, *rewards, at(second, 1e3 * frames)])
    yield text(
        "**{} ± {}** over 20 episodes ({} to {}) after {} frames, where it was stopped, and {} minutes",
        *deviation(first),
        min(returns(first)),
        max(returns(first)),
        Rounded(4 * evaluated(LAPTOP.format(0)), 1000),
        minutes(first),
    )
    yield text("{} updates, commit fa4219e", Rounded(last(first, "updates"), 1000))
    header = "| Krull | Up'n Down"
    spans = {"Return in training, 400k random frames": (0, 400), "from 400k to 450k frames": (400, 450)}
    spans |= {f"{low}k to {high}k": (low, high) for low, high in ((450, 500), (500, 550), (550, 600), (600, 656))}
    for label, (low, high) in spans.items():
        inside = [between(name, 1e3 * low, 1e3 * high) for name in ATARI.values()]
        counted = [mean(inside[0]), len(inside[0]), mean(inside[1]), len(inside[1])]
        yield row(header, label, counted if low == 0 else counted[::2])
    values = [x for name in ATARI.values() for x in (*deviation(name), min(returns(name)), max(returns(name)))]
    yield row(header, "20 episodes with mode actions", values)
    games = "Krull", "UpNDown"
    yield row(
        header, "DreamerV2 as released, full size, after 1M frames, 8 seeds", [x for g in games for x in published(g)]
    )
    yield row(header, "the same after 2M frames", [published(game, 2e6)[0] for game in games])
    yield row(header, "Human gamer", [known_scores(game).gamer for game in games])
    yield row(header, "Random play", [known_scores(game).random for game in games])
    yield text("has not in Pong ({}) or most", published("Pong")[0])
    yield text("as in the suite `boxing`: {} and {} minutes of one thread each", *map(minutes, ATARI.values()))
    yield text("AVX-512, in bf16, {} updates; commit a6859dd", last(ATARI["up"], "updates"))
    yield text(
        "has passed 7,000 after {} frames and {} minutes",
        None,
        mean([at(ATARI["krull"], frames, "time") / 60 for frames in (548_000, 552_000)]),
    )


def trials() -> Iterator[Claim]:
    header = "Run | What is different"
    for letter, unit in (("c", 10_000), ("d", 5_000), ("e", 5_000)):
        name = f"boxing/trials/boxing-{letter}"
        shares = [line for line in jsonl("boxing/unseen.jsonl") if line["run"] == f"boxing-{letter}"]
        score = mean([r["episode/return"] for r in run(name).rows if "episode/return" in r][-5:])
        values = [Rounded(last(name, "frames"), unit), Rounded(last(name, "updates"), 100), score]
        values += [last(name, "eval/return"), shares[0]["own"]["explained"], *(x["other"]["explained"] for x in shares)]
        yield replace(row(header, f"boxing-{letter}", values), tail=len(values))
    (learned,) = [line for line in jsonl("boxing/unseen.jsonl") if line["run"] == "laptop/seed-0"]
    scores = [r["episode/return"] for r in run(LAPTOP.format(0)).rows if "episode/return" in r][-5:]
    values = [4 * evaluated(LAPTOP.format(0)), Rounded(last(LAPTOP.format(0), "updates"), 1000), scores[-2], scores[-1]]
    values += [deviation(LAPTOP.format(0))[0], learned["own"]["explained"], learned["other"]["explained"]]
    yield replace(row(header, "seed 0 above", values), tail=len(values))
    values = [4 * evaluated("boxing"), None, *deviation("boxing")]
    yield replace(row(header, "the preset atari-small", values), tail=len(values))
    early = "boxing/trials/boxing-f"
    deviations = [
        r["imagination/reward_std"]
        for r in run(LAPTOP.format(0)).rows
        if r["updates"] > 9100 and "imagination/reward_std" in r
    ]
    yield text("whose deviation is {} to {}: with", min(deviations), max(deviations))
    yield text(
        "scored {} in training and {} with mode actions, and", last(early, "episode/return"), last(early, "eval/return")
    )
    explained = [
        1 - (at(name, frames, "model/reward_loss") - NORMAL) / (0.0193 / 2)
        for name, frames in ((early, 240e3), (LAPTOP.format(0), 412e3), (LAPTOP.format(0), 436e3))
    ]
    yield text("{} of the variance was explained after", explained[0])
    yield text("{} was explained after 3,100 updates and {} after 9,100", *explained[1:])
    yield text(
        "policy's entropy stayed at {} % of its maximum; with 1e-3, falling, it fell to {} %",
        entropy("boxing/trials/boxing-e", 18),
        entropy(LAPTOP.format(0), 18),
    )
    rewards = [line[side]["rewards"] for line in jsonl("boxing/unseen.jsonl") for side in ("own", "other")]
    yield text(
        "in {} steps with {} to {} rewards", learned["steps"], Rounded(min(rewards), 10), Rounded(max(rewards), 10)
    )


def readme() -> Iterator[Claim]:
    header = "Task | Random | Optimum"
    proofs = [pick("learning_proofs.jsonl", env=env, cut="nothing", commit="a34c9ec") for env in ("Catch", "Recall")]
    half = [
        pick("learning_proofs.jsonl", env="Catch", precision="bf16", commit=x)["score"] for x in ("7a1e530", "27a2176")
    ]
    yield text("| -6 | 10 | {} after 5,500 steps in float32; {} and {} in bf16", proofs[0]["score"], *half)
    yield text("as released: {} after 1M frames (8 seeds)", published("Boxing")[0])
    yield text("| 0 | 8 | {} after 5,500 steps", proofs[1]["score"])
    for task in ("CartPole", "Pendulum"):
        scores = [deviation(f"classic-control/{task}-v1-seed{seed}")[0] for seed in range(3)]
        yield row(header, f"{task}-v1", [None, None, *scores, last(f"classic-control/{task}-v1-seed0", "step")])
    first, second = (LAPTOP.format(seed) for seed in (0, 1))
    yield text(
        "| {} after {} frames, {} minutes with bf16 on one or two CPU cores; {} after {} frames with another seed",
        deviation(second)[0],
        last(second, "frames"),
        minutes(second),
        deviation(first)[0],
        Rounded(4 * evaluated(LAPTOP.format(0)), 1000),
    )
    yield text("with another seed, {} minutes on two cores", minutes(first))
    yield text(
        "{} after {} frames (one seed), {} minutes of one CPU core |",
        deviation(SHOOTER)[0],
        Rounded(last(SHOOTER, "frames"), 1000),
        None,
    )
    values = [peer("atari", who)["median"] for who in ("ours-fp32", "ours-bf16", "sheeprl-fp32", "sheeprl-bf16")]
    yield text(
        "fp32 / bf16 ([measured](docs/performance.md)) | {} / {} s | not measured | not measured | {} / {} s", *values
    )


def peer(preset: str, who: str, group: str = "contenders") -> dict[str, Any]:
    found = [x[group][who] for x in jsonl("peers.jsonl") if x["preset"] == preset and who in x[group]]
    return dict(found[0].get("seconds", found[0]))


def peers() -> Iterator[Claim]:
    labels = {"reverie, ": "ours-", "sheeprl 0.8.4, ": "sheeprl-"}
    for label, who in labels.items():
        for kind in ("fp32", "bf16"):
            found = [peer(preset, who + kind) for preset in ("atari-small", "atari")]
            mixed = "-mixed" if (who, kind) == ("sheeprl-", "bf16") else ""
            values = [x for line in found for x in (line["median"], *line["quartiles"])]
            yield row("Median seconds of an update", f"{label}{kind}{mixed}", values)
    sizes = [
        pick("peers.jsonl", preset=preset, rounds=rounds)["contenders"]["ours-bf16"]["parameters"]
        for preset, rounds in (("atari-small", 7), ("atari", 5))
    ]
    yield row("Median seconds of an update", "Median seconds of an update (quartiles)", sizes)
    rounds = [line["rounds"] for line in jsonl("peers.jsonl")]
    yield row("Ratio to sheeprl", "Ratio to sheeprl within a round (quartiles)", [rounds[0], *sorted(rounds[1:])])
    naive = peer("atari-small", "naive-fp32")
    yield row(
        "Median seconds of an update", "plain eager PyTorch, fp32 (naive.py)", [naive["median"], *naive["quartiles"]]
    )
    for kind in ("fp32", "bf16"):
        found = [peer(preset, f"sheeprl-{kind} / ours-{kind}", "ratios") for preset in ("atari-small", "atari")]
        yield row("Ratio to sheeprl", kind, [x for line in found for x in (line["median"], *line["quartiles"])])


def gains() -> Iterator[Claim]:
    columns = list(itertools.product(("atari-small", "atari"), ("fp32", "bf16")))
    labels = {name: name for name in ("filtering", "imagination", "dense", "convolutions", "adam")}
    for label, name in (labels | {"any": "all", "policy (decisions)": "policy"}).items():
        found = [pick("kernels.jsonl", preset=preset, precision=kind, without=name) for preset, kind in columns]
        yield row("Without", label, [x for line in found for x in spread(line, "ratio")])
    seconds = [
        pick("kernels.jsonl", preset=preset, precision=kind, without="all")["cpu_seconds_with_median"]
        for preset, kind in columns
    ]
    yield text("takes {} and {} s with all kernels (`atari-small`, fp32 and bf16), {} and {} s (`atari`)", *seconds)
    counts = [arithmetic(PRESETS[name].config, 1, 18) for name in ("atari", "atari-small")]
    operations = [part["all"] for kind in ("dense", "sparse") for part in (count[kind] for count in counts)]
    lines = [pick("update_time.jsonl", preset=preset, precision=kind) for preset, kind in columns]
    errors = [line["cpu_seconds_ratio_standard_error"] for line in lines]
    template = "takes {} and {} of the time (`atari-small`, fp32 and bf16), {} and {} (`atari`), "
    template += "with standard errors of {} to {}"
    ratios = (line["cpu_seconds_ratio_median"] for line in lines)
    yield text(template, *ratios, min(errors), max(errors))
    template = (
        "{} GFLOP for an update of `atari` and {} for `atari-small`; without products of one-hot vectors {} and {}"
    )
    yield text(template, *operations)
    peaks = [pick("memory.jsonl", preset=preset, precision=kind)["peak_resident_mib"] for preset, kind in columns]
    yield text("{} MiB in fp32 and {} in bf16 for `atari-small`, {} and {} for `atari`", *peaks)


def speed() -> Iterator[Claim]:
    totals = [line for line in jsonl("convolutions.jsonl") if line["layer"] == "all"]
    template = "in bf16: {} to {} ms for all layers of `atari`, {} to {} of `atari-small`"
    yield text(template, *(line[key] for line in totals for key in ("onednn_ms", "ours_ms")))
    for axis, label in (
        ("batch", "Batch (16)"),
        ("length", "Length (50)"),
        ("horizon", "Horizon (15)"),
        ("width", "Width of the RSSM (200)"),
    ):
        found = [line for line in jsonl("scaling.jsonl") if line["axis"] == axis]
        values = [x for line in found for x in (line["value"], line["seconds_median"], line["peak_resident_mib"])]
        yield row("| | | | |", label, values)
    for value in (0.0, 8.0, 32.0, 64.0):
        lines = [x for x in pick("precision.jsonl", preset="atari-small")["errors"] if x["value"] == value]
        low, high = (next(x for x in lines if x["output_layers"] == kind) for kind in ("bf16", "fp32"))
        values = [
            x[key] * scale
            for key, scale in (("advantage_error_rms", 1), ("signs_flipped", 100), ("gradient_cosine", 1))
            for x in (low, high)
        ]
        yield row("V | Advantage", f"{value:.0f}", [low["advantage_std"], *values])
    timing = pick("precision.jsonl", preset="atari-small")["timing"]
    yield text(
        "ratio of paired times {} ± {} (standard error, {} pairs)",
        timing["ratio_median"],
        timing["ratio_standard_error"],
        timing["rounds"],
    )


def collection() -> Iterator[Claim]:
    labels = "One environment, one core", "Two, in two workers on two cores", "Eight, in two workers on two cores"
    for label, envs in zip(labels, (1, 2, 8), strict=True):
        found = pick("collect.jsonl", num_envs=envs, commit="627356f")
        shares = [spread(found, f"share_of_{kind}_ale", 100) for kind in ("bare", "vector")]
        speed = Rounded(found["without_policy_steps_per_second_median"], 1)
        yield row("| steps/s | of the bare emulator", label, [speed, *shares[0], *shares[1]])
    decisions = [1e3 * pick("collect.jsonl", num_envs=n, commit="627356f")["act_seconds_median"] for n in (1, 2, 8)]
    yield text("{} ms for one environment, {} for two and {} for eight", *decisions)
    small, large = (pick("loop.jsonl", preset=preset) for preset in ("atari-small", "atari"))
    share = [[100 * x[f"{part}_share_median"] for part in ("collect", "learn", "sample")] for x in (small, large)]
    yield text(
        "makes {} frames/s ({} to {}), of whose time environment and acting take {} %, learning {} %, sampling "
        "{} %; `atari` {} ({} to {}), {} %, {} %, {} %.",
        *spread(small, "frames_per_second"),
        *share[0],
        *spread(large, "frames_per_second"),
        *share[1],
    )
    (replay,) = jsonl("replay.jsonl")
    yield text("{} steps of Atari's shapes", replay["steps"])
    yield text("{} are added in a second", replay["steps_per_second"])
    yield text(
        "opened in {} s by a process of {} MiB, with {} times their bytes",
        *(replay[name] for name in ("open_seconds", "resident_mib", "disk_per_raw")),
    )
    batches = [replay[f"{name}batch_milliseconds"] for name in ("", "first_")]
    yield text("in {} ms, and in {} ms where its windows are drawn for the first time", *batches)


def durability() -> Iterator[Claim]:
    names = ("soak", "damage", "hostile", "power_cut", "full_disk", "growth", "sigterm")
    soaks, (damage,), (hostile,), (cut,), (disk,), (growth,), (stopped,) = (jsonl(f"{name}.jsonl") for name in names)
    yield text("{} steps with a checkpoint every 50", soaks[0]["steps"])
    yield text("killed with SIGKILL, {} and {} times", *(soak["kills"] for soak in soaks))
    yield text("to step {}; half", max(step for soak in soaks for step in soak["checkpoint_steps_when_killed"]))
    workers = [soak["workers_killed"] for soak in soaks]
    yield text("{} worker processes were killed", sum(each["kills"] for each in workers))
    yield text("{} restarts were counted", sum(each["restarts_counted"] for each in workers))
    counts: Counter[str] = Counter()
    for place, outcomes in damage["outcomes"].items():
        counts.update(outcomes)
        named = outcomes["found"] + outcomes.get("a checkpoint is gone as a whole", 0)
        rest = outcomes.get("no effect", 0), outcomes.get("unchanged", 0)
        yield row("Place | Named", PLACES[place], [named, *rest])
    yield text("{} places: {} were named", damage["places"], counts["found"])
    yield text("{} are a checkpoint that was gone as a whole", counts["a checkpoint is gone as a whole"])
    resumed = damage["resumed"]
    yield text(
        "Of {} copies that were resumed, {} were refused in a sentence, {} ended with the digest of the undamaged "
        "run, and {} said what was lost",
        sum(resumed.values()),
        resumed["refused"],
        resumed["the same"],
        resumed["said"],
    )
    yield text("{} inputs, {} of each of", hostile["inputs"], max(hostile["by_test"].values()))
    yield text("and {} runs that were resumed", sum(n for name, n in hostile["by_test"].items() if "resumed" in name))
    yield text("{} writes, syncs and renames of a run were recorded", cut["operations"])
    yield text("{} moments were chosen", cut["cuts"])
    yield text("{} disks were filled", disk["disks"])
    for faults in jsonl("faults.jsonl"):
        kinds = faults["kinds"].values()
        yield text("{} steps, each of which fails with a chance of {} %", faults["steps"], 100 * faults["probability"])
        when = "during" if faults["async_collection"] == "on" else "between"
        yield text(
            f"| {when} updates | {{}} | {{}} | {{}} to {{}} | {{}} |",
            faults["restarts_counted"],
            faults["restarts_reported"],
            min(kinds),
            max(kinds),
            faults["episodes_truncated"],
        )
    yield text("{} steps of a tiny agent", growth["steps"])
    for name, label in GROWING.items():
        keys = ("slope_per_100k_steps", "standard_error", "least", "most")
        yield row("Quantity | By 100,000 steps", label, [growth[name][key] for key in keys])
    yield text("{} signals at random moments", stopped["signals"])
    seconds = [stopped[f"seconds_{name}"] for name in ("least", "most", "median")]
    yield text("ended after {} to {} seconds (median {})", *seconds)
    cost, pairs = jsonl("against.jsonl")
    yield text("takes {} % of the time", 100 * cost["replay_share"])
    yield text("a checkpoint {} s, {} %", cost["checkpoint_seconds"], 100 * cost["checkpoint_share"])
    for kind, words in {"seconds": "the time", "cpu_seconds": "the processor time"}.items():
        values = [pairs[f"{kind}_ratio_{name}"] for name in ("mean", "standard_error", "median")]
        yield text(f"{words} with protection is {{}} ± {{}} of that without (median {{}})", *values)
    yield text("over {} pairs", pairs["rounds"])


def variants() -> Iterator[Claim]:
    for name, counts in ARTICLE.items():
        yield replace(row("Name | Equation", name, list(counts)), tail=3)
    header = "Objective | Posterior entropy"
    labels = {"balanced, scale 0.1 (the preset)": "balanced", "split as the article writes it": "article"}
    for label, name in (labels | {r"split with $\eta_x = 1$": "image1"}).items():
        keys = ("model/posterior_entropy", "model/prior_entropy", "model/kl", "model/image_loss")
        yield row(header, label, [last(f"split/{name}", key) for key in keys])


def table_1() -> Iterator[Claim]:
    labels = {"schedules": "DreamerV2 with schedules", "release": "DreamerV2 as released", "iqn": "IQN"}
    numbers = " | ".join(["{}"] * 4)
    for name, label in labels.items():
        values = *printed_aggregates(name), *aggregates(name)
        yield text(f"| {label}, Table 1 | {numbers} |\n| recomputed | {numbers} |".replace("\n", " "), *values)
    for name in ("schedules", "release"):
        yield text("gamer means are {} % higher", 100 * (aggregates(name)[1] / printed_aggregates(name)[1] - 1))
    medians = [100 * (aggregates(x)[0] / printed_aggregates(x)[0] - 1) for x in ("schedules", "release")]
    bond = atari_scores()["james_bond"]
    yield text(
        "(random 7, gamer 29 for {} and {}). A score of {}, IQN's, is {} in units of the gamer",
        bond.random,
        bond.gamer,
        bond.agents["iqn"],
        normalised_scores("ALE/Jamesbond-v5", bond.agents["iqn"])["gamer"],
    )
    yield text("median is {} % lower with schedules and {} % higher as released", -medians[0], medians[1])


def changelog() -> Iterator[Claim]:
    slower = [line["ratio_median"] for line in jsonl("kernels.jsonl") if line["without"] == "all"]
    yield text("an update takes {} to {} % of the time of the plain agent", 100 / max(slower), 100 / min(slower))
    lines = [x for x in pick("precision.jsonl", preset="atari-small")["errors"] if x["value"] == 64]
    cosines = [next(x["gradient_cosine"] for x in lines if x["output_layers"] == kind) for kind in ("bf16", "fp32")]
    yield text("at values of {} the cosine of the actor's gradient to float32's rises from {} to {}", None, *cosines)
