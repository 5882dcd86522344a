"""Recompute the numbers of the documents from `results/`: `python benchmarks/figures.py [--list]`.

Claims tie numbers of a document to a computation: `text` by a sentence with {} for each number, `row` by the row of a
table. A claim fails if its text is not in the document, or if a printed number is not the computed one, rounded as
printed. Numbers are counted outside of code, links and formulas. --list prints each with the files of `results/` that
its paragraph or section links to.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from reverie.analysis.ablations import Comparison, compare
from reverie.analysis.published import AGGREGATES, paper_table
from reverie.analysis.runs import Run, read_run, score_at
from reverie.analysis.scores import aggregate, published_scores, scores_from_curves

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
NUMBER = r"-?\d+(?:,\d{3})*(?:\.\d+)?(?:[kM]\b)?"
TOKEN = re.compile(rf"(?<![\w.,-]){NUMBER}(?!\w|[.,]\d)|\b(?:better|worse|tied)\b")
HIDDEN = re.compile(r"^```.*?^```|^ {4}.*?$|`[^`\n]+`|(?<=\])\([^)]*\)|\$[^$]+\$", re.MULTILINE | re.DOTALL)
UNITS = {"k": 1e3, "M": 1e6}
AGENTS = ("full", "no-kl-balancing", "straight-through-only", "gaussian-latents", "no-image-gradients")


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


# Checking


def hide(document: str) -> str:
    """Blank out code, link targets and formulas; positions stay."""
    return HIDDEN.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), document)


def plain(cell: str) -> str:
    return re.sub(r"[`*]|\]\([^)]*\)|\[", "", cell).strip()


def cells(line: str) -> list[tuple[int, str]]:
    """Split a table's line into the position and text of each cell."""
    return [(match.start(), match[0]) for match in re.finditer(r"(?<=\|)[^|\n]*(?=\|)", line)]


def find_row(document: str, header: str, label: Sequence[str]) -> tuple[int, int]:
    """Return start and end of the rest of a row; an empty first cell repeats the one above."""
    starts = [match.start() for match in re.finditer(rf"^\| ?{re.escape(header)}", document, re.MULTILINE)]
    found, above = [], ""
    for start in starts:
        for line in re.finditer(r".*\n?", document[start:]):
            if not line[0].startswith("|"):
                break
            parts = cells(line[0])
            first = [plain(cell) for _, cell in parts[: len(label)]]
            above = first[0] = first[0] or above
            if first == list(label):
                begin = start + line.start()
                found.append((begin + parts[len(label)][0], begin + len(line[0])))
    if len(found) != 1:
        raise LookupError(f"{len(found)} rows {' | '.join(label)!r} in tables {header!r}")
    return found[0]


def find(document: str, place: str | tuple[str, ...]) -> list[tuple[int, str]]:
    """Return position and text of every number of a claim."""
    if isinstance(place, tuple):
        start, end = find_row(document, place[0], place[1:])
        return [(match.start(), match[0]) for match in TOKEN.finditer(hide(document), start, end)]
    parts = [r"\s+".join(map(re.escape, part.split(" "))) for part in place.split("{}")]
    matches = list(re.finditer(rf"({NUMBER}|better|worse|tied)".join(parts), document))
    if len(matches) != 1:
        raise LookupError(f"{len(matches)} places with the text {place!r}")
    return [(matches[0].start(i), matches[0][i]) for i in range(1, len(parts))]


def agrees(printed: str, value: Value) -> bool:
    """Return whether a printed number is the value, rounded to the digits that are printed."""
    if value is None or isinstance(value, str):
        return value in (None, printed)
    suffix = UNITS.get(printed[-1], 1.0)
    digits = printed.rstrip("kM").replace(",", "")
    unit = suffix * 10.0 ** -len(digits.partition(".")[2])
    if isinstance(value, Rounded):
        value, unit = value.value, value.unit
    return bool(abs(float(digits) * suffix - value) <= unit / 2 * (1 + 1e-6))


def check(documents: dict[str, str], claims: Sequence[Claim]) -> tuple[list[str], dict[str, set[int]]]:
    """Compare claims with documents.

    Returns:
        One line for each claim that fails, and the positions of the numbers that were recomputed, by document.
    """
    errors: list[str] = []
    recomputed: dict[str, set[int]] = {name: set() for name in documents}
    for claim in claims:
        document = documents[claim.document]
        try:
            printed = find(document, claim.place)[-claim.tail :]
        except LookupError as error:
            errors.append(f"{claim.document}: there are {error}.")
            continue
        where = f"{claim.document}:{document.count(chr(10), 0, printed[0][0]) + 1}" if printed else claim.document
        if len(printed) != len(claim.values):
            errors.append(f"{where}: {claim.place} has {len(printed)} numbers, {len(claim.values)} are computed.")
            continue
        wrong = [
            f"{shown} is {value.value if isinstance(value, Rounded) else value}"
            for (_, shown), value in zip(printed, claim.values, strict=True)
            if not agrees(shown, value)
        ]
        if wrong:
            errors.append(f"{where}: {claim.place}: {', '.join(wrong)} by results/.")
        recomputed[claim.document] |= {
            start for (start, _), value in zip(printed, claim.values, strict=True) if value is not None
        }
    return errors, recomputed


def numbers(document: str) -> list[tuple[int, str]]:
    """Return position and text of every number outside of code, links and formulas."""
    return [(match.start(), match[0]) for match in TOKEN.finditer(hide(document)) if match[0][-1] not in "rde"]


def sources(document: str, position: int) -> list[str]:
    """Return the files of results/ that the paragraph or row of a position links to, else those of its section."""
    link = r"\]\((?:\.\./)?(results/[^)#]*)"
    line = document.rfind("\n", 0, position) + 1
    if document[line] == "|":
        block = document[line : document.find("\n", position)]
    else:
        block = document[document.rfind("\n\n", 0, position) + 1 : document.find("\n\n", position)]
    section = re.split(r"^#+ ", document[:position], flags=re.MULTILINE)[-1]
    section += re.split(r"^#+ ", document[position:], flags=re.MULTILINE)[0]
    return sorted(set(re.findall(link, block) or re.findall(link, section)))


def read_documents() -> dict[str, str]:
    names = ["README.md", "CHANGELOG.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in names}


def main() -> int:
    parser = argparse.ArgumentParser(description="Recompute the numbers of the documents from results/.")
    parser.add_argument("--list", action="store_true", help="print every number, its line, and its sources")
    is_listed = parser.parse_args().list
    documents = read_documents()
    errors, recomputed = check(documents, registry())
    for name, document in documents.items():
        found = numbers(document)
        for position, printed in found if is_listed else ():
            line = document.count("\n", 0, position) + 1
            state = "recomputed" if position in recomputed[name] else "not recomputed"
            print(f"{name}:{line}: {printed} {state}; {', '.join(sources(document, position)) or 'no source'}")
        count = sum(position in recomputed[name] for position, _ in found)
        print(f"{name}: {count} numbers recomputed, {len(found) - count} not")
    for error in errors:
        print(error, file=sys.stderr)
    return bool(errors)


# Reading results


@cache
def run(name: str) -> Run:
    return read_run(RESULTS / f"{name}.metrics.jsonl")


def last(name: str, key: str) -> float:
    """Return the last value of a metric."""
    return float(next(line[key] for line in reversed(run(name).rows) if key in line))


def at(name: str, frames: float, key: str = "eval/return") -> float:
    """Return a metric at some number of frames."""
    return float(next(line[key] for line in run(name).rows if line["frames"] == frames and key in line))


def between(name: str, low: float, high: float) -> list[float]:
    """Return the returns in training of the rows in (low, high] frames."""
    return [r["train/return"] for r in run(name).rows if "train/return" in r and low < r["frames"] <= high]


def minutes(name: str) -> float:
    return last(name, "time") / 60


def entropy(name: str, actions: int) -> float:
    """Return the policy's last entropy in percent of its largest."""
    return 100 * last(name, "behavior/actor_entropy") / math.log(actions)


def final(name: str) -> float:
    score = score_at(run(name), run(name).frames_planned)
    assert score is not None and score.source == "evaluations"
    return score.value


@cache
def jsonl(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RESULTS / name).read_text(encoding="utf-8").splitlines()]


def returns(name: str) -> list[float]:
    """Return the returns of an evaluation's episodes."""
    return [episode["return"] for episode in json.loads((RESULTS / f"{name}.eval.json").read_text())["episodes"]]


def deviation(name: str) -> tuple[float, float]:
    """Return mean and sample standard deviation of an evaluation."""
    return float(np.mean(returns(name))), float(np.std(returns(name), ddof=1))


def pick(name: str, **conditions: Any) -> dict[str, Any]:
    """Return the one row of a jsonl file with these values."""
    (found,) = [line for line in jsonl(name) if all(line[key] == value for key, value in conditions.items())]
    return found


def spread(line: dict[str, Any], name: str, factor: float = 1.0) -> list[float]:
    """Return median and quartiles."""
    return [factor * x for x in (line[f"{name}_median"], *line[f"{name}_quartiles"])]


# What the documents say


def registry() -> list[Claim]:
    """Return every claim."""
    documents = {
        "docs/results.md": (article, minatar_ablations, boxing_ablations, minatar, small_tasks, boxing, trials),
        "README.md": (readme,),
        "docs/performance.md": (peers, speed, collection),
        "docs/durability.md": (durability,),
        "docs/variants.md": (split,),
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
    return [getattr(aggregate(published_scores(name)), key) for key in AGGREGATES]


def printed_aggregates(name: str) -> list[float]:
    return [paper_table()[name][key] for key in AGGREGATES]


def article() -> Iterator[Claim]:
    paper, ours = ([f(n) for n in ("schedules", "release")] for f in (printed_aggregates, aggregates))
    yield text("{} / {} / {} / {} with schedules and {} / {} / {} / {} as released in the paper", *paper[0], *paper[1])
    yield text("{} / {} / {} / {} and {} / {} / {} / {} recomputed", *ours[0], *ours[1])
    full, gauss, plain_kl, straight, blind = map(tasks, ("full", AGENTS[3], AGENTS[1], AGENTS[2], AGENTS[4]))
    order = "Catch {} and Recall {} without, {} and {} with them; Space Invaders {} and {}; Breakout {} and {} (one seed)"
    pairs = [x for both in zip(blind[2:], full[2:], strict=True) for x in both]
    yield text(f"{order}; Boxing {{}} and {{}}", *blind[:2], *full[:2], *pairs)
    yield text("Catch {}, Recall {}, Space Invaders {}, Breakout {}, Boxing {} with Gaussian ones", *gauss)
    yield text("Catch {}, Recall {}, Space Invaders {}, Breakout {} with the plain one; Boxing {} and {}", *plain_kl, full[4])
    yield text("Catch {}, Recall {}, Space Invaders {}, Breakout {}; Boxing {} and {}", *straight, full[4])
    for variant, words in (("no-reward-gradients", "without"), ("reinforce-only", "| Yes, likewise")):
        yield text(f"Catch {{}}, Recall {{}} {words}", proof("Catch", variant), proof("Recall", variant))
    yield text(
        "full {}, dynamics gradients alone {}, plain KL {}, no image gradients {}, Gaussian latents {} on Boxing",
        *(tasks[4] for tasks in (full, straight, plain_kl, blind, gauss)),
    )
    yield text(
        "| {} ± {} after 1M frames and {} minutes, {} ± {} after {} frames and {} minutes; a seventh",
        *deviation(LAPTOP.format(1)), minutes(LAPTOP.format(1)),
        *deviation(LAPTOP.format(0)), 192_192 * 4, minutes(LAPTOP.format(0)),
    )  # fmt: skip
    yield text(
        "| Krull {} ± {} (DreamerV2 as released, 8 seeds, after 1M frames: 3,854), Up'n Down {} ± {} (8,025), after {} "
        "frames and {} and {} minutes",
        *deviation(ATARI["krull"]), *deviation(ATARI["up"]), last(ATARI["up"], "frames"), *map(minutes, ATARI.values()),
    )  # fmt: skip
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
    frames = (4400, 6800, 8000, 9200, 10400)
    for agent in AGENTS:
        name = MINATAR.format("Breakout", agent, 0)
        verdict = [] if agent == "full" else [compare([breakout("full")], [breakout(agent)]).paper]
        yield row("Agent | 4.4k", agent, [*(at(name, x) for x in frames), breakout(agent), *verdict])
    low, high = (f(minutes(MINATAR.format("Breakout", agent, 0)) for agent in AGENTS) for f in (min, max))
    yield text("beside other work, {} to {} minutes a cell", low, high)
    straight, plain_kl = (mean(invaders(AGENTS[i])) for i in (2, 1))
    yield text("by the paper's rule, {} of {}, which Welch's interval", straight, mean(full))
    yield text("better in Breakout by {} % (one seed)", 100 * (1 - breakout("full") / breakout(AGENTS[2])))
    yield text("by {} % of the full agent's score, which", 100 * (1 - plain_kl / mean(full)))
    games = [f"minatar/{game}-v1-evening-seed0" for game in ("Freeway", "Asterix", "Seaquest")]
    times = [minutes(game) for game in games]
    yield text("seed 0, {} to {} minutes each (`*-evening-seed0.*`", min(times), max(times))
    freeway = run(games[0]).evaluation.values
    yield text("score between {} and {} from one evaluation", min(freeway), max(freeway))
    others = [breakout("full"), mean(full), *map(final, games)]
    yield row("| Breakout | Space Invaders", "full, mean of the last tenth", others)
    cells = [MINATAR.format("Breakout", "full", 0), MINATAR.format("SpaceInvaders", "full", 0), *games]
    shares = [entropy(name, actions) for name, actions in zip(cells, (3, 4, 3, 5, 6), strict=True)]
    shares.insert(2, 0.0)
    yield row("| Breakout | Space Invaders", "Entropy of the policy, of its largest", [*shares[:2], None, *shares[3:]])


def boxing_ablations() -> Iterator[Claim]:
    frames = (400e3, 464e3, 528e3, 560e3, 592e3, 624e3, 656e3)
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
    loss = [last(name, "model/reward_loss") - 0.5 * math.log(2 * math.pi) for name in (*gauss, full[0])]
    for name in gauss:
        yield text("(a KL of {} nats in both; the reward loss ends", last(name, "model/kl"))
    yield text("ends {} and {} above its constant, {} with the full agent)", *loss)
    yield text("largest entropy ({} and {} %), and still", *(entropy(name, 18) for name in gauss))
    yield text("frames: {} in training with sampled actions (seed 0), {} and {} with the most likely ones",
               last(gauss[0], "train/return"), *boxers(AGENTS[3]))  # fmt: skip
    yield text("with a KL of {} nats instead of {} and a policy", mean_kl(plain_kl), mean_kl(full))
    kept = [sorted(last(name, "behavior/actor_entropy") for name in names) for names in (plain_kl, full, straight)]
    yield text("({} to {} nats instead of {} to {})", kept[0][0], kept[0][-1], kept[1][0], kept[1][-1])
    yield text("most of its entropy ({} to {} nats)", kept[2][0], kept[2][-1])
    yield text("almost as well: {} and {}, within", *boxers(AGENTS[2]))
    intervals = [welch(compare(boxers("full"), boxers(AGENTS[i]))) for i in (4, 3, 1, 2)]
    template = "{} to {} for no image gradients and {} to {} for Gaussian latents, whose verdicts are **supported**, and "
    template += "{} to {} for the plain KL and {} to {} for dynamics gradients alone"
    yield text(template, *(end for interval in intervals for end in interval))


def mean_kl(names: Sequence[str]) -> float:
    return mean([last(name, "model/kl") for name in names])


SHOOTER, BRICKS = "minatar/SpaceInvaders-v1-seed0", "minatar/Breakout-v1-seed0"


def minatar() -> Iterator[Claim]:
    updates = last(BRICKS, "updates")
    yield text("{} frames, {} updates, {} minutes on one thread of a busy machine",
               last(BRICKS, "frames"), updates, minutes(BRICKS))  # fmt: skip
    for name, frames in ((BRICKS, (2, 12, 32, 52, 72, 100)), (SHOOTER, (2, 12, 22, 32, 42, 52, 62, 72, 82, 87))):
        header = "Frames | 2k | 12k | " + ("32k" if name == BRICKS else "22k")
        yield row(header, "Return, mode actions, 10 episodes", [at(name, 1000 * x) for x in frames])
        yield row(header, "Frames", [1000 * x for x in frames])
    yield text("After training, 50 episodes: **{} ± {}**. DQN", *deviation(BRICKS))
    yield text("fell to {} % of its maximum within {} frames ({} % at the end)",
               100 * at(BRICKS, 25_000, "behavior/actor_entropy") / math.log(3), 25_000, entropy(BRICKS, 3))  # fmt: skip
    yield text("cure: {} ± {} over 50 episodes", *deviation("minatar/Breakout-v1-entropy-seed0"))
    yield text("some {} updates, {} minutes on one thread of the same", Rounded(last(SHOOTER, "updates"), 200), None)
    yield text("After training, 50 episodes: **{} ± {}**, still rising", *deviation(SHOOTER))
    yield row("Agent | Frames | Seeds | Score", "this run", [last(SHOOTER, "frames"), 1, deviation(SHOOTER)[0]])
    repeat, large = "minatar/SpaceInvaders-v1-bf16-seed0", "minatar/SpaceInvaders-v1-large-seed0"
    yield text("frames in {} minutes of one core; `SpaceInvaders-v1-bf16-seed0.*`), follows the same curve: {} ± {} over",
               minutes(repeat), *deviation(repeat))  # fmt: skip
    yield text("**{} ± {}** over 50 episodes after {} frames, {} updates and {} minutes",
               *deviation(large), None, last(large, "updates"), minutes(large))  # fmt: skip
    labels = "first run, float32", "the same in bf16", "4.7M parameters, rewards weighted 20 times, KL scale 0.5"
    for label, name in zip(labels, (SHOOTER, repeat, large), strict=True):
        values = [mean(between(name, 1e3 * low, 1e3 * high)) for low, high in ((10, 14), (20, 24), (36, 40))]
        yield row("Return in training, mean of", label, values)
    trial = "minatar/Asterix-v1-trial"
    yield text("given up after {} frames at {}, which", Rounded(last(trial, "frames"), 2000), last(trial, "eval/return"))
    yield text("the policy kept {} % of its largest entropy, and", entropy(trial, 5))


def small_tasks() -> Iterator[Claim]:
    name = "learning_proofs.jsonl"
    for env in ("Catch", "Recall"):
        found = [pick(name, env=env, cut=cut, commit="a34c9ec") for cut in ("nothing", "actor", "kl")]
        values = [found[0]["random"], found[0]["best"], *(line["score"] for line in found)]
        yield row("Environment | Random | Optimum", env, values)
    fast = [pick(name, env=env, commit="27a2176", precision=kind) for kind in ("bf16", "fp32") for env in ("Catch", "Recall")]
    for line in fast[::2], fast[1::2]:
        yield text("Catch scores {} and Recall {} in either precision, in some {} seconds",
                   fast[0]["score"], fast[1]["score"], Rounded(mean([x["cpu_seconds"] for x in fast]), 10))  # fmt: skip
    emulated, plain_proof = jsonl(name)[-2:]
    yield text("takes {} seconds of CPU time and scores {}, in float32 {} seconds and {}, same seed",
               *(line[key] for line in (emulated, plain_proof) for key in ("cpu_seconds", "score")))  # fmt: skip
    control = {task: [f"classic-control/{task}-v1-seed{seed}" for seed in range(3)] for task in ("CartPole", "Pendulum")}
    for seed in range(3):
        values = [x for names in control.values() for x in deviation(names[seed])]
        yield row("Seed | CartPole", str(seed), values)
    carts, poles = ([minutes(name) for name in names] for names in control.values())
    yield text("within {} to {} minutes on the clock, sharing cores with others, and Pendulum's within {}, {} and {}",
               min(carts), max(carts), *poles)  # fmt: skip
    yield text("Both take {} agent steps and {} updates with",
               *(last(control["CartPole"][0], key) for key in ("step", "updates")))  # fmt: skip
    first = [min(f for f, v in zip(*curve_of(name), strict=True) if v == 500) for name in control["CartPole"]]
    yield text("first balances for all 500 steps at {} to {} steps", min(first), max(first))
    settled = [max(f for f, v in zip(*curve_of(name), strict=True) if v < 500) + 1000 for name in control["CartPole"]]
    yield text("From {} steps on, every evaluation", max(settled))


def curve_of(name: str) -> tuple[list[float], list[float]]:
    line = run(name).evaluation
    return list(line.frames), list(line.values)


def boxing() -> Iterator[Claim]:
    first, second = (LAPTOP.format(seed) for seed in (0, 1))
    yield text("seed 1: **{} ± {}** over 20 episodes with mode actions (from {} to {}) after",
               *deviation(second), min(returns(second)), max(returns(second)))  # fmt: skip
    yield text("{} minutes on one core of an Intel Xeon with AMX, in bf16", minutes(second))
    yield text("{} updates of batches of 10x16", last(second, "updates"))
    training: dict[int, tuple[int, ...]] = {400: (), 480: (460,), 560: (516, 572), 640: (628, 632), 720: (688, 744)}
    training |= {800: (796, 800), 880: (852, 856, 860), 960: (908, 912, 916), 1000: (964, 968, 972)}
    for frames, rows in training.items():
        label = "1M" if frames == 1000 else f"{frames}k"
        after = next(r for r in run(second).rows if r["frames"] > 1e3 * frames or r["frames"] == 1e6)
        values: list[Value] = [at(second, 1e3 * frames, key) for key in ("time", "updates")]
        values = [values[0] / 60, values[1], *([9000] if frames == 400 else []), after["behavior/actor_entropy"]]  # type: ignore[operator]
        scores: list[Value] = [at(second, 1e3 * x, "train/return") for x in rows] or [between(second, 0, 4e5)[-1]]
        if len(rows) == 3:
            scores += [1e3 * rows[0], 1e3 * rows[-1]]
        else:
            scores = [x for score, k in zip(scores, rows, strict=False) for x in (score, 1e3 * k)] or scores
        yield row("Frames | Minutes | Updates", label, [*values, *scores, at(second, 1e3 * frames)])
    yield text("**{} ± {}** over 20 episodes ({} to {}) after {} frames, where it was stopped, and {} minutes",
               *deviation(first), min(returns(first)), max(returns(first)), 192_192 * 4, minutes(first))  # fmt: skip
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
    yield text("as in the suite `boxing`: {} and {} minutes of one thread each", *map(minutes, ATARI.values()))
    yield text("AVX-512, in bf16, {} updates; commit a6859dd", last(ATARI["up"], "updates"))
    yield text("has passed 7,000 after {} frames and {} minutes", 550_000,
               next(r["time"] for r in run(ATARI["krull"]).rows if r["frames"] > 548_000) / 60)  # fmt: skip


def trials() -> Iterator[Claim]:
    header = "Run | What is different"
    for letter, unit in (("c", 10_000), ("d", 5_000), ("e", 5_000)):
        name = f"boxing/trials/boxing-{letter}"
        shares = [line for line in jsonl("boxing/unseen.jsonl") if line["run"] == f"boxing-{letter}"]
        score = mean([r["train/return"] for r in run(name).rows if "train/return" in r][-5:])
        values = [Rounded(last(name, "frames"), unit), Rounded(last(name, "updates"), 100), score]
        values += [last(name, "eval/return"), shares[0]["own"]["explained"], *(x["other"]["explained"] for x in shares)]
        yield replace(row(header, f"boxing-{letter}", values), tail=len(values))
    (learned,) = [line for line in jsonl("boxing/unseen.jsonl") if line["run"] == "laptop/seed-0"]
    scores = [r["train/return"] for r in run(LAPTOP.format(0)).rows if "train/return" in r][-5:]
    values = [192_192 * 4, Rounded(last(LAPTOP.format(0), "updates"), 1000), scores[-2], scores[-1]]
    values += [deviation(LAPTOP.format(0))[0], learned["own"]["explained"], learned["other"]["explained"]]
    yield replace(row(header, "seed 0 above", values), tail=len(values))
    early = "boxing/trials/boxing-f"
    yield text("scored {} in training and {} with mode actions, and", last(early, "train/return"), last(early, "eval/return"))
    explained = [1 - (at(name, frames, "model/reward_loss") - 0.5 * math.log(2 * math.pi)) / (0.0193 / 2)
                 for name, frames in ((early, 240e3), (LAPTOP.format(0), 412e3), (LAPTOP.format(0), 436e3))]  # fmt: skip
    yield text("{} of the variance was explained after", explained[0])
    yield text("{} was explained after 3,100 updates and {} after 9,100", *explained[1:])
    yield text("policy's entropy stayed at {} % of its maximum; with 1e-3, falling, it fell to {} %",
               entropy("boxing/trials/boxing-e", 18), entropy(LAPTOP.format(0), 18))  # fmt: skip
    rewards = [line[side]["rewards"] for line in jsonl("boxing/unseen.jsonl") for side in ("own", "other")]
    yield text("in {} steps with {} to {} rewards", 6400, Rounded(min(rewards), 10), Rounded(max(rewards), 10))
    line = json.loads((RESULTS / "replay.json").read_text())
    yield text("reopened in {} ms; a batch", 1e3 * line["reopen_seconds"])
    warm, cold = line["warm_batch_seconds_median"], line["cold_batch_seconds_median"]
    yield text("sampled and decoded in {} ms (99th percentile {} ms) with a warm page cache and in {} ms with a cold one, "
               "which is {} % and {} % of an update; {} MiB of resident memory are added by 2,000 batches; {} bytes a step "
               "on disk; {} steps a second are added", 1e3 * warm, 1e3 * np.percentile(line["warm_batch_seconds_all"], 99),
               1e3 * cold, 100 * warm / line["train_step_seconds_median"], 100 * cold / line["train_step_seconds_median"],
               line["resident_mib_added"], line["disk_bytes_per_step"], Rounded(line["added_per_second"], 100))  # fmt: skip


def readme() -> Iterator[Claim]:
    header = "Task | Random | Optimum"
    proofs = [pick("learning_proofs.jsonl", env=env, cut="nothing", commit="a34c9ec") for env in ("Catch", "Recall")]
    yield text("| -6 | 10 | {} after 5,500 steps in float32", proofs[0]["score"])
    yield text("| 0 | 8 | {} after 5,500 steps", proofs[1]["score"])
    for task in ("CartPole", "Pendulum"):
        scores = [deviation(f"classic-control/{task}-v1-seed{seed}")[0] for seed in range(3)]
        yield text("| {}, {}, {} after 20,000 steps (three seeds) |", *scores) if task == "" else row(
            header, f"{task}-v1", [None, None, *scores, last(f"classic-control/{task}-v1-seed0", "step")]
        )
    first, second = (LAPTOP.format(seed) for seed in (0, 1))
    yield text("| {} after {} frames, {} minutes of a CPU core with bf16; {} after {} frames with another seed",
               deviation(second)[0], last(second, "frames"), minutes(second), deviation(first)[0],
               Rounded(192_192 * 4, 1000))  # fmt: skip
    yield text("in two commands with its settings, {} minutes of two cores", minutes(first))
    yield text("{} after {} frames (one seed), {} minutes of one CPU core |", deviation(SHOOTER)[0],
               Rounded(last(SHOOTER, "frames"), 1000), None)  # fmt: skip
    values = [peer("atari", who)["median"] for who in ("ours-fp32", "ours-bf16", "sheeprl-fp32", "sheeprl-bf16")]
    yield text("fp32 / bf16 ([measured](docs/performance.md)) | {} / {} s | not measured | not measured | {} / {} s", *values)


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
    naive = peer("atari-small", "naive-fp32")
    yield row("Median seconds of an update", "plain eager PyTorch, fp32 (naive.py)", [naive["median"], *naive["quartiles"]])
    for kind, goal in (("fp32", 2), ("bf16", 3)):
        found = [peer(preset, f"sheeprl-{kind} / ours-{kind}", "ratios") for preset in ("atari-small", "atari")]
        yield row("Ratio to sheeprl", kind, [goal, *(x for line in found for x in (line["median"], *line["quartiles"]))])


def speed() -> Iterator[Claim]:
    totals = []
    for kind in ("bf16", "fp32"):
        for depth in (48, 24):
            found = [x for x in jsonl("convolutions.jsonl") if (x["precision"], x["depth"]) == (kind, depth)]
            totals.append([sum(x[key] for x in found) for key in ("onednn_ms", "ours_ms")])
    template = "bf16 {} to {} ms (`atari`), {} to {} (`atari-small`); fp32 {} to {}, {} to {}."
    yield text(template, *(x for pair in totals for x in pair))
    for axis, label in (("batch", "Batch (16)"), ("length", "Length (50)"), ("horizon", "Horizon (15)"),
                        ("width", "Width of the RSSM (200)")):  # fmt: skip
        found = [line for line in jsonl("scaling.jsonl") if line["axis"] == axis]
        values = [x for line in found for x in (line["value"], line["seconds_median"], line["peak_resident_mib"])]
        extra = {"batch": [None], "horizon": [None], "width": [None]}.get(axis, [])
        yield row("| | | | | |", label, [*values, *extra])
    for value in (0.0, 8.0, 32.0, 64.0):
        lines = [x for x in pick("precision.jsonl", preset="atari-small")["errors"] if x["value"] == value]
        low, high = (next(x for x in lines if x["output_layers"] == kind) for kind in ("bf16", "fp32"))
        values = [x[key] * scale for key, scale in (("advantage_error_rms", 1), ("signs_flipped", 100), ("gradient_cosine", 1))
                  for x in (low, high)]  # fmt: skip
        yield row("V | Advantage", f"{value:.0f}", [low["advantage_std"], *values])
    timing = pick("precision.jsonl", preset="atari-small")["timing"]
    yield text("ratio of paired times {} ± {} (standard error, {} pairs)",
               timing["ratio_median"], timing["ratio_standard_error"], timing["rounds"])  # fmt: skip


def collection() -> Iterator[Claim]:
    labels = "One environment, one core", "Two, in two workers on two cores", "Eight, in two workers on two cores"
    for label, envs in zip(labels, (1, 2, 8), strict=True):
        before, now = (pick("collect.jsonl", num_envs=envs, commit=commit) for commit in ("8536e16", "627356f"))
        shares = [spread(now, f"share_of_{kind}_ale", 100) for kind in ("bare", "vector")]
        earlier = [100 * before[f"share_of_{kind}_ale_median"] for kind in ("bare", "vector")]
        speed = Rounded(now["without_policy_steps_per_second_median"], 1)
        yield row("| steps/s | of the bare emulator", label, [speed, *shares[0], *shares[1], *earlier])
    decisions = [1e3 * pick("collect.jsonl", num_envs=n, commit="627356f")["act_seconds_median"] for n in (1, 2, 8)]
    yield text("{} ms for one environment, {} for two and {} for eight", *decisions)
    small, large = (pick("loop.jsonl", preset=preset) for preset in ("atari-small", "atari"))
    share = [[100 * x[f"{part}_share_median"] for part in ("collect", "learn", "sample")] for x in (small, large)]
    yield text("makes {} frames/s ({} to {}), of whose time environment and acting take {} %, learning {} %, sampling {} %; "
               "`atari` {} ({} to {}), {} %, {} %, {} %.", *spread(small, "frames_per_second"), *share[0],
               *spread(large, "frames_per_second"), *share[1])  # fmt: skip
    presets = "atari", "atari-small", "demo", "vector", "crafter", "debug", "dmc-proprio", "dmc-vision"
    parts = {preset: 100 * pick("replay.jsonl", preset=preset)["share_of_train_step"] for preset in presets}
    yield text(", ".join(f"`{preset}` {{}} %" for preset in presets[:6]), *list(parts.values())[:6])
    yield text("`dmc-proprio` {} %, `dmc-vision` {} %", *list(parts.values())[6:])
    line, update = json.loads((RESULTS / "replay.json").read_text()), pick("replay.jsonl", preset="atari-small")
    batches = [line[f"{kind}_batch_seconds_median"] for kind in ("warm", "cold")]
    times = line["train_step_seconds_median"], update["train_step_seconds_median"]
    yield text("a batch of 16x50 takes {} ms warm and {} ms cold", *(1e3 * x for x in batches))
    yield text("{} and {} % of the update of the same run, {} s before the fast path, and {} and {} % of the {} s",
               *(100 * x / times[0] for x in batches), times[0], *(100 * x / times[1] for x in batches), times[1])  # fmt: skip


def durability() -> Iterator[Claim]:
    (damage,), (soak,), (growth,), (hostile,) = (jsonl(f"{x}.jsonl") for x in ("damage", "soak", "growth", "hostile"))
    gone = damage["outcomes"]
    yield text("Of {} places, {} were named, {} took a checkpoint away as a whole (which is how one goes back to the one "
               "before), and {} had no effect", damage["places"], gone["found"], gone["a checkpoint is gone as a whole"],
               gone["no effect"])  # fmt: skip
    resumed = damage["resumed"]
    yield text("Of {} damaged copies that were resumed, {} were refused by name,",
               sum(resumed.values()), resumed["refused"])  # fmt: skip
    yield text("by name, {} ended in the very bits", resumed["the same"])
    yield text("and {} said what was lost", resumed["said"])
    yield text("No stack trace, no other data. {} minutes of one core", damage["seconds"] / 60)
    yield text("{} steps with a checkpoint every 50: killed with SIGKILL {} times", soak["steps"], soak["kills"])
    yield text("before the folder is opened to step {}, half", max(soak["checkpoint_steps_when_killed"]))
    workers = soak["workers_killed"]
    yield text("In a third run {} worker processes were killed", workers["kills"])
    yield text("with {} failures counted", workers["faults_counted"])
    yield text("ending already, it is assumed). {} minutes", soak["seconds"] / 60)
    for faults in jsonl("faults.jsonl"):
        ways = faults["ways"].values()
        yield text("trains for {} steps while each step raises", faults["steps"])
        yield text("with a chance of {} %: {} failures, {} to {} in each of these ways, {} episodes", 100 * faults["probability"],
                   faults["faults_counted"], min(ways), max(ways), faults["episodes_truncated"])  # fmt: skip
    kinds = hostile["by_test"]
    yield text("makes up {} of them, {} of each kind and {} runs that are resumed", hostile["inputs"],
               max(kinds.values()), kinds["test_runs_that_are_resumed"])  # fmt: skip
    values = [[growth[f"{part}"][key] for key in ("slope_per_100k_steps", "standard_error", "least", "most")]
              for part in ("memory_mib", "open_files", "disk_mib")]  # fmt: skip
    yield text("memory of both processes {} ± {} MiB (of {} to {}), open files {} ± {} (of {} to {}), threads {} ({}), disk "
               "{} ± {} MiB (of {} to {})", *values[0], *values[1], growth["threads"]["slope_per_100k_steps"],
               growth["threads"]["most"], *values[2])  # fmt: skip
    yield text("which grow by {} MiB", growth["records_mib"]["slope_per_100k_steps"])
    yield text("growth.jsonl`: {} steps of a tiny agent", growth["steps"])
    busy, now = jsonl("against.jsonl")
    clock, cpu = ([now[f"{kind}_ratio_{x}"] for x in ("mean", "standard_error", "median")] for kind in ("seconds", "cpu_seconds"))
    yield text("is {} ± {} of the other's (median {})", *clock)
    yield text("processor time {} ± {} (median {})", *cpu)
    yield text("medians {} and {})", busy["seconds_ratio_median"], busy["cpu_seconds_ratio_median"])


def split() -> Iterator[Claim]:
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
    by_rows = aggregate(scores_from_curves("release"))
    yield text("those of the release are {} / {} / {} / {}", *(getattr(by_rows, key) for key in AGGREGATES))
    for name in ("schedules", "release"):
        yield text("gamer means are {} % higher", 100 * (aggregates(name)[1] / printed_aggregates(name)[1] - 1))
    medians = [100 * (aggregates(x)[0] / printed_aggregates(x)[0] - 1) for x in ("schedules", "release")]
    yield text("median is {} % lower with schedules and {} % higher as released", -medians[0], medians[1])


def changelog() -> Iterator[Claim]:
    lines = [x for x in pick("precision.jsonl", preset="atari-small")["errors"] if x["value"] == 64]
    cosines = [next(x["gradient_cosine"] for x in lines if x["output_layers"] == kind) for kind in ("bf16", "fp32")]
    yield text("at values of {} the cosine of the actor's gradient to float32's rises from {} to {}", 64, *cosines)


if __name__ == "__main__":
    sys.exit(main())
