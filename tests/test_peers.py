"""The comparison with other implementations: its rounds, its statistics, and how it talks to its contenders."""

import argparse
import io
import json
import statistics
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from benchmarks import contenders, naive, peers
from benchmarks.peers import Child, Step, busy_seconds, check_sizes, ratios, spread, take_rounds

FAKE = """
    import json, sys
    name, parameters, *seconds = sys.argv[1:]
    print(json.dumps({"parameters": int(parameters), "threads": 1, "versions": {}}), flush=True)
    for one, _ in zip(seconds, sys.stdin):
        print(json.dumps({"seconds": float(one), "cpu_seconds": 0.75 * float(one)}), flush=True)
    sys.exit("a warning\\n" + name + " is tired")
"""
"""Says that its steps took the seconds that it was given, one after another, and then dies."""


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    script = tmp_path / "fake.py"
    script.write_text(textwrap.dedent(FAKE))
    return script


# --- rounds ----------------------------------------------------------------------------------------------------------


class Scripted:
    """Contenders whose calls take 1, 2, 3 ... seconds; some of the calls are disturbed."""

    def __init__(self, disturbed: tuple[int, ...] = (), others: float | None = 0.0) -> None:
        self.calls: list[str] = []
        self._disturbed, self._others = disturbed, others

    def __call__(self, name: str) -> Step:
        self.calls.append(name)
        call = len(self.calls)
        return Step(float(call), 0.5 if call in self._disturbed else self._others)

    def contenders(self, names: str) -> dict:
        return {name: lambda name=name: self(name) for name in names}


def test_rounds_rotate() -> None:
    script = Scripted()
    taken = take_rounds(script.contenders("abc"), 4, tolerance=0.05, retries=2)
    assert script.calls == [*"abc", *"bca", *"cab", *"abc"]
    assert taken.seconds[1] == {"b": 4.0, "c": 5.0, "a": 6.0}
    assert (len(taken.seconds), taken.discarded_steps, taken.discarded_rounds) == (4, 0, 0)


def test_a_disturbed_step_is_repeated_at_once() -> None:
    script = Scripted(disturbed=(2, 3))
    taken = take_rounds(script.contenders("ab"), 2, tolerance=0.05, retries=2)
    assert script.calls == [*"abbb", *"ba"]
    assert taken == ([{"a": 1.0, "b": 4.0}, {"a": 6.0, "b": 5.0}], 2, 0)


def test_a_round_is_discarded_when_a_step_does_not_come_out_clean() -> None:
    script = Scripted(disturbed=(2, 3))
    taken = take_rounds(script.contenders("ab"), 1, tolerance=0.05, retries=1)
    assert script.calls == [*"abb", *"ba"]
    assert taken == ([{"a": 5.0, "b": 4.0}], 2, 1)


def test_a_busy_machine_ends_the_tries() -> None:
    script = Scripted(others=0.06)
    taken = take_rounds(script.contenders("ab"), 2, tolerance=0.05, retries=0)
    assert taken == ([], 6, 6)


@pytest.mark.parametrize("others", [None, 0.05])
def test_what_is_unknown_or_tolerated_counts(others: float | None) -> None:
    taken = take_rounds(Scripted(others=others).contenders("a"), 3, tolerance=0.05, retries=0)
    assert (len(taken.seconds), taken.discarded_steps) == (3, 0)


# --- statistics ------------------------------------------------------------------------------------------------------


def test_spread() -> None:
    assert spread([4.0, 1.0, 3.0, 2.0, 5.0]) == {
        "median": 3.0,
        "quartiles": [2.0, 4.0],
        "all": [4.0, 1.0, 3.0, 2.0, 5.0],
    }
    assert spread([7.0]) == {"median": 7.0, "quartiles": [7.0, 7.0], "all": [7.0]}


def test_ratios_are_taken_round_by_round() -> None:
    """The second round found a machine of half the speed, which no ratio shows."""
    rounds = [
        {"ours-fp32": 1.0, "ours-bf16": 0.5, "sheeprl-fp32": 2.0, "sheeprl-bf16": 1.5, "naive-fp32": 1.5},
        {"ours-fp32": 2.0, "ours-bf16": 1.0, "sheeprl-fp32": 4.0, "sheeprl-bf16": 3.0, "naive-fp32": 5.0},
    ]
    found = ratios(rounds)
    assert {name: one["all"] for name, one in found.items()} == {
        "sheeprl-fp32 / ours-fp32": [2.0, 2.0],
        "sheeprl-bf16 / ours-bf16": [3.0, 3.0],
        "naive-fp32 / ours-fp32": [1.5, 2.5],
    }
    assert found["naive-fp32 / ours-fp32"]["median"] == 2.0


def test_without_our_own_step_there_is_no_ratio() -> None:
    assert ratios([{"ours-fp32": 1.0, "sheeprl-bf16": 2.0}]) == {}


def test_sizes_must_agree() -> None:
    check_sizes({"ours-fp32": 1000, "naive-fp32": 1010})
    with pytest.raises(SystemExit, match="naive-fp32 has 1,011 parameters and ours-fp32 has 1,000"):
        check_sizes({"ours-fp32": 1000, "naive-fp32": 1011})


# --- contenders ------------------------------------------------------------------------------------------------------


def test_others_share_of_the_cores(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """4 seconds on 2 cores, of which all programs used 5 and the contender 3: others had 2 / 8, less a tick."""
    clock = iter([100.0, 105.0, 200.0, 203.0])
    monkeypatch.setattr(peers, "busy_seconds", lambda: next(clock))
    monkeypatch.setattr(peers, "cores", lambda: 2)
    child = Child("fake", [sys.executable, str(fake), "fake", "10", "4", "4"], 1)
    try:
        assert child.ready["parameters"] == 10
        seconds, others = child.step()
        assert seconds == 4.0
        assert others == pytest.approx((5 - 3 - 2 * peers.TICK) / 8)
        assert child.step() == Step(4.0, 0.0)
    finally:
        child.close()


def test_a_contender_that_dies_is_reported(fake: Path) -> None:
    child = Child("sheeprl-fp32", [sys.executable, str(fake), "it", "10"], 1)
    with pytest.raises(SystemExit, match="contender sheeprl-fp32 has ended: it is tired"):
        child.step()


def test_busy_seconds_of_the_usable_cores() -> None:
    times = psutil.cpu_times(percpu=True)
    usable = psutil.Process().cpu_affinity()
    busy = sum(sum(times[core][:8]) - times[core].idle - times[core].iowait for core in usable)
    assert busy_seconds() == pytest.approx(busy, rel=0.01, abs=1.0)


def test_a_contender_steps_once_for_each_line() -> None:
    steps: list[int] = []
    contender = contenders.Contender(lambda: steps.append(len(steps)), 12, ("torch",))
    answers = io.StringIO()

    def lines() -> Iterator[str]:
        assert json.loads(answers.getvalue())["parameters"] == 12
        assert len(steps) == contenders.WARM_UP
        yield from ("step\n", "step\n")

    contenders.serve(contender, 3, lines(), answers)  # type: ignore[arg-type]
    ready, *measured = map(json.loads, answers.getvalue().splitlines())
    assert ready["threads"] == 3
    assert "torch" in ready["versions"]
    assert len(measured) == 2
    assert all(set(one) == {"seconds", "cpu_seconds"} for one in measured)
    assert len(steps) == contenders.WARM_UP + 2


def test_our_contenders_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = naive.Sizes(depth=2, deter=8, units=8, layers=1, variables=2, classes=2, horizon=3)
    monkeypatch.setitem(naive.PRESETS, "debug", tiny)
    options = argparse.Namespace(preset="debug", batch=2, length=5, threads=1)
    for kind, precision in (("ours", "fp32"), ("ours", "bf16"), ("naive", "fp32")):
        contender = contenders.CONTENDERS[kind](precision, options)
        losses = [contender.step() for _ in range(2)]
        assert losses[0] != losses[1]
        assert contender.parameters > 0


# --- the whole -------------------------------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, fake: Path, line: str, seconds: dict[str, list[str]]) -> None:
    monkeypatch.setattr(sys, "argv", ["peers.py", *line.split()])
    monkeypatch.setattr(peers, "busy_seconds", lambda: 0.0)
    monkeypatch.setattr(peers, "command", lambda name, _: [sys.executable, str(fake), name, "1000", *seconds[name]])
    peers.main()


def test_the_script(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = {"ours-fp32": ["1", "2", "4"], "naive-fp32": ["3", "4", "4"]}
    out = tmp_path / "out.jsonl"
    run(monkeypatch, fake, f"--rounds 3 --threads 1 --contenders ours-fp32 naive-fp32 --out {out}", seconds)
    printed = capsys.readouterr().out
    result = json.loads(printed.splitlines()[-1])
    assert json.loads(out.read_text()) == result
    assert result["contenders"]["ours-fp32"]["seconds"]["all"] == [1.0, 2.0, 4.0]
    assert result["contenders"]["naive-fp32"]["parameters"] == 1000
    assert result["ratios"] == {"naive-fp32 / ours-fp32": spread([3.0, 2.0, 1.0])}
    assert result["ratios"]["naive-fp32 / ours-fp32"]["median"] == statistics.median([3, 2, 1])
    assert (result["rounds"], result["discarded_steps"], result["discarded_rounds"]) == (3, 0, 0)
    assert {"cpu", "flags", "cores", "commit", "threads", "preset"} <= set(result)
    assert "1.50 - 2.50" in printed


def test_how_to_get_sheeprl_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["peers.py"])
    with pytest.raises(SystemExit):
        peers.main()
    said = " ".join(capsys.readouterr().err.split())
    assert f"DIR/bin/pip install torch=={torch.__version__} sheeprl=={peers.SHEEPRL}" in said
