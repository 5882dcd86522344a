"""Our train step against sheeprl's `dreamer_v2` and against plain PyTorch, at equal sizes.

    python benchmarks/peers.py --sheeprl-python DIR/bin/python --preset atari-small --rounds 5

Each contender is one process that lives as long as the measurement (`contenders.py`) and rests while another works. In
a round each of them does one train step on 16 sequences of 50 steps; the order rotates. What the machine does changes
within minutes, so only steps of one round are compared: a ratio is taken in each round, and the median of these ratios
and its quartiles are printed, with the seconds, before one JSON object on the last line.

A step is disturbed if other programs took more than --tolerance of the cores that we may use while it ran: all
processor time that /proc/stat counts on those cores, time stolen by the host included, less that of the contender.
A disturbed step is repeated at once, up to --retries times; if it does not come out clean the whole round is
discarded, and up to three times as many rounds are tried as are wanted. Where there is no /proc/stat nothing is
detected, and the result says so.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.conditions import cores, machine, versions  # noqa: E402

SHEEPRL = "0.8.4"
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
CONTENDERS = ("ours-fp32", "ours-bf16", "sheeprl-fp32", "sheeprl-bf16", "naive-fp32")
OPTIONAL = ("sheeprl_compiled-fp32", "sheeprl_compiled-bf16")
TRIES = 3
"""Rounds that are tried for each that is wanted."""
TICK = 0.01
"""Seconds: what /proc/stat counts in."""


class Step(NamedTuple):
    seconds: float
    others: float | None
    """Share of the usable cores that other programs took; None if it is not known."""


class Rounds(NamedTuple):
    seconds: list[dict[str, float]]
    """Of each contender in each round that was kept."""
    discarded_steps: int
    discarded_rounds: int


class Child:
    """A contender's process, warmed up."""

    def __init__(self, name: str, command: Sequence[str], threads: int) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.ready = self._answer()
        """What the process says of itself: parameters, threads, versions."""

    def step(self) -> Step:
        """Let it do one train step."""
        assert self._process.stdin is not None
        before = busy_seconds()
        try:
            self._process.stdin.write("step\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail()
        answer = self._answer()
        after = busy_seconds()
        if before is None or after is None:
            return Step(answer["seconds"], None)
        # One tick of the clock is no evidence of anything.
        taken = max(0.0, after - before - answer["cpu_seconds"] - TICK * cores())
        return Step(answer["seconds"], taken / (answer["seconds"] * cores()))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else self._fail()

    def _fail(self) -> NoReturn:
        self._process.wait()
        self._errors.seek(0)
        reason = (self._errors.read().strip().splitlines() or ["it said nothing"])[-1]
        self.close()
        sys.exit(f"error: The contender {self.name} has ended: {reason}")


def busy_seconds() -> float | None:
    """Processor time that the cores we may use have spent on anything so far; None where nobody counts."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
        usable = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    except (OSError, AttributeError):
        return None
    total = 0
    for name, *counts in (line.split() for line in lines):
        if name in usable:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, counts[:8])
            total += user + nice + system + irq + softirq + steal
    return total / os.sysconf("SC_CLK_TCK")


def take_rounds(contenders: Mapping[str, Callable[[], Step]], rounds: int, tolerance: float, retries: int) -> Rounds:
    """Let all contenders step in turn until `rounds` rounds came out undisturbed, or too many were tried."""
    names = list(contenders)
    kept: list[dict[str, float]] = []
    discarded_steps = tries = 0
    while len(kept) < rounds and tries < TRIES * rounds:
        first = tries % len(names)
        tries += 1
        current: dict[str, float] = {}
        for name in names[first:] + names[:first]:
            for _ in range(1 + retries):
                step = contenders[name]()
                if step.others is None or step.others <= tolerance:
                    current[name] = step.seconds
                    break
                discarded_steps += 1
            if name not in current:
                break
        else:
            kept.append({name: current[name] for name in names})
    return Rounds(kept, discarded_steps, tries - len(kept))


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, quartiles and the values themselves."""
    quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"median": statistics.median(values), "quartiles": [quartiles[0], quartiles[2]], "all": list(values)}


def ratios(rounds: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Seconds of each peer over ours of the same precision, round by round."""
    result = {}
    for name in rounds[0]:
        kind, precision = name.rsplit("-", 1)
        mine = f"ours-{precision}"
        if kind != "ours" and mine in rounds[0]:
            result[f"{name} / {mine}"] = spread([one[name] / one[mine] for one in rounds])
    return result


def check_sizes(parameters: Mapping[str, int]) -> None:
    """Contenders whose trained parameters differ by more than 1 % do not do the same work."""
    (first, count), *others = parameters.items()
    for name, other in others:
        if abs(other - count) > 0.01 * count:
            sys.exit(f"error: {name} has {other:,} parameters and {first} has {count:,}; they may differ by 1 %.")


def command(name: str, options: argparse.Namespace) -> list[str]:
    python = options.sheeprl_python if name.startswith("sheeprl") else sys.executable
    script = str(ROOT / "benchmarks" / "contenders.py")
    return [python, script, name, "--preset", options.preset, "--threads", str(options.threads)]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sheeprl-python", default="", help=f"Python that has sheeprl {SHEEPRL}")
    parser.add_argument("--preset", choices=["atari", "atari-small"], default="atari", help="sizes")
    parser.add_argument("--rounds", type=int, default=5, help="undisturbed ones that are wanted")
    parser.add_argument("--threads", type=int, default=cores(), help="of each contender; default: all usable cores")
    known = CONTENDERS + OPTIONAL
    names = f"some of {', '.join(known)}; the last two compile for minutes"
    parser.add_argument("--contenders", nargs="+", choices=known, default=CONTENDERS, metavar="NAME", help=names)
    parser.add_argument("--tolerance", type=float, default=0.05, help="share of the cores that others may take")
    parser.add_argument("--retries", type=int, default=2, help="of a disturbed step")
    parser.add_argument("--out", type=Path, help="file to which the JSON object is appended, too")
    options = parser.parse_args()
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads must be at least 1.")
    if any(name.startswith("sheeprl") for name in options.contenders) and not options.sheeprl_python:
        parser.error(
            "Give --sheeprl-python DIR/bin/python after making it with `python3 -m venv DIR` and "
            f"`DIR/bin/pip install torch=={versions('torch')['torch']} sheeprl=={SHEEPRL} "
            f"--extra-index-url {CPU_WHEELS}`, or leave sheeprl out of --contenders."
        )
    return options


def report(result: Mapping[str, Any]) -> None:
    """The table for people."""
    kept, steps, rounds = result["rounds"], result["discarded_steps"], result["discarded_rounds"]
    print(f"{result['preset']}, {result['threads']} threads, {result['cpu']} ({', '.join(result['flags'])})")
    print(f"{kept} rounds; discarded because others disturbed them: {steps} steps, {rounds} rounds")
    rows = [("seconds a step", "median", "quartiles", "parameters")]
    for name, one in result["contenders"].items():
        rows.append((name, *show(one["seconds"], 3), f"{one['parameters']:,}"))
    rows.append(("ratio", "median", "quartiles", ""))
    rows += [(name, *show(one, 2), "") for name, one in result["ratios"].items()]
    for name, *cells in rows:
        print(f"{name:<36}" + "".join(f"{cell:>16}" for cell in cells))


def show(values: Mapping[str, Any], digits: int) -> tuple[str, str]:
    low, high = values["quartiles"]
    return f"{values['median']:.{digits}f}", f"{low:.{digits}f} - {high:.{digits}f}"


def main() -> None:
    options = parse()
    with contextlib.ExitStack() as stack:
        children = []
        for name in options.contenders:
            children.append(Child(name, command(name, options), options.threads))
            stack.callback(children[-1].close)
        check_sizes({child.name: child.ready["parameters"] for child in children})
        steps = {child.name: child.step for child in children}
        rounds = take_rounds(steps, options.rounds, options.tolerance, options.retries)
    if not rounds.seconds:
        sys.exit(f"error: All {rounds.discarded_rounds} rounds were disturbed; wait until the machine is quieter.")
    result = {
        "preset": options.preset,
        "batch": 16,
        "length": 50,
        "threads": options.threads,
        "rounds": len(rounds.seconds),
        "discarded_steps": rounds.discarded_steps,
        "discarded_rounds": rounds.discarded_rounds,
        "disturbance_detected_by": "/proc/stat" if busy_seconds() is not None else None,
        "contenders": {
            child.name: {"seconds": spread([one[child.name] for one in rounds.seconds]), **child.ready}
            for child in children
        },
        "ratios": ratios(rounds.seconds),
        **machine(),
    }
    report(result)
    print(json.dumps(result))
    if options.out:
        with options.out.open("a") as file:
            file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
