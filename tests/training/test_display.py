"""The display fits its terminal, keeps quiet without one, and shows what it was told."""

import io
import math
import re

import pytest
from reverie.training.progress import (
    History,
    Progress,
    format_count,
    format_duration,
    format_number,
    format_rate,
    format_score,
    sparkline,
)
from rich.console import Console

from reverie.training.display import Display

METRICS = {
    "model/image_loss": 3771.23,
    "model/reward_loss": 0.9215,
    "model/discount_loss": 0.0123,
    "model/kl_loss": 8.1,
    "model/kl": 8.125,
    "model/prior_entropy": 33.2,
    "model/posterior_entropy": 21.9,
    "actor/loss": -0.01234,
    "critic/loss": 1.234,
    "actor/entropy": 2.61,
    "critic/value": 0.83,
    "imagination/return_mean": 1.022,
    "perf/updates_per_second": 2.174,
}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def terminal(width: int = 80, height: int = 24) -> Console:
    return Console(
        file=io.StringIO(), record=True, force_terminal=True, width=width, height=height, color_system="truecolor"
    )


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def busy_display(console: Console, clock: Clock) -> Display:
    """A display in the middle of a run."""
    display = Display(
        "ALE/Boxing-v5",
        100_000,
        preset="atari-small",
        parameters=4_200_718,
        device="cpu",
        live=True,
        console=console,
        clock=clock,
    )
    for index in range(39):
        clock.now += 7.5
        display.update(step=250 * index, frames=1000 * index, metrics={**METRICS, "model/kl": 12.0 - index / 10})
        display.episode(float(index - 14), 1783)
    display.evaluation(17.25)
    display.evaluation(-3.0)
    return display


@pytest.mark.parametrize("height", [10, 16, 24, 50])
@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 120])
def test_it_fits(width: int, height: int) -> None:
    console = terminal(width, height)
    console.print(busy_display(console, Clock()))
    lines = console.export_text().splitlines()
    assert {len(line) for line in lines} == {min(width, 80)}
    # Below that there is no room for the bar alone; the live view crops what is left over.
    assert len(lines) <= max(height, 10)
    assert "38%" in "".join(lines)


def test_it_shows_what_it_was_told() -> None:
    console = terminal()
    console.print(busy_display(console, Clock()))
    text = console.export_text()
    for part in (
        "ALE/Boxing-v5",
        "atari-small · 4.2M parameters · cpu",
        "training",
        "38,000 of 100,000 frames",
        "133 frames/s · 2.17 updates/s",
        "4:52 elapsed",
        "7:45 left",
        "3,771.2",
        "-0.0123",
        "8.200",
        "imagined return",
    ):
        assert part in text, part
    assert text.split("return, last 10")[1].split()[0] == "19.5"
    assert text.split("evaluation")[1].split()[0] == "-3.0"
    assert text.split("best evaluation")[1].split()[0] == "17.2"
    assert "-14.0 to 24.0" in text


def test_before_the_first_update() -> None:
    console = terminal()
    console.print(Display("CartPole-v1", 1000, live=True, console=console, clock=Clock()))
    text = console.export_text()
    assert "starting" in text and "0 of 1,000 frames" in text and "nan" not in text


def test_vector_observations_and_broken_numbers() -> None:
    console = terminal()
    display = Display("CartPole-v1", 1000, live=True, console=console, clock=Clock())
    display.update(step=10, frames=10, metrics={"model/vector_loss": 3.7, "model/kl": math.nan})
    console.print(display)
    text = console.export_text(styles=True)
    assert "vector" in text and "image" not in text
    assert re.search(r"\x1b\[1;31m *nan", text)


def test_live_view_starts_and_stops() -> None:
    console = terminal()
    with Display("CartPole-v1", 1000, console=console, live=True) as display:
        display.update(step=10, frames=1000, phase="finished")
        display.log("a checkpoint [of] sorts")
    assert "a checkpoint [of] sorts" in printed(console)
    assert "100%" in printed(console) and "\x1b[?25h" in printed(console)  # the cursor is back


def test_plain_lines_come_now_and_then() -> None:
    clock = Clock()
    console = Console(file=io.StringIO(), width=40)
    with Display("ALE/Pong-v5", 100_000, preset="atari", console=console, clock=clock) as display:
        assert not display.is_live
        for step in range(0, 401):
            clock.now = step / 10
            if step == 110:
                display.episode(4.0, 100)
                display.evaluation(5.0)
            display.update(step=step, frames=100 * step, metrics=METRICS if step > 100 else None)
        display.log("saved [bold]x[/bold]")
    lines = printed(console).splitlines()
    assert lines[0] == "ALE/Pong-v5  atari"
    # At 0, 10, 20, 30 and 40 seconds, and once at the end.
    assert [line.split("/")[0] for line in lines[1:6]] == ["0", "10,000", "20,000", "30,000", "40,000"]
    assert lines[3] == (
        "20,000/100,000 frames   20%  eta 1:20  return 4.0  eval 5.0  image 3,771.2  kl 8.125  1,000 f/s"
    )
    assert lines[6] == "saved [bold]x[/bold]"
    assert len(lines) == 8 and all(line.isascii() for line in lines)


@pytest.mark.parametrize(
    ("environment", "live"),
    [({}, True), ({"CI": "true"}, False), ({"TERM": "dumb"}, False)],
)
def test_a_live_view_needs_a_real_terminal(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], live: bool
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    console = Console(file=io.StringIO(), force_terminal=True)
    assert Display("x", 10, console=console).is_live is live
    assert not Display("x", 10, console=Console(file=io.StringIO(), force_terminal=False)).is_live


def test_a_terminal_without_unicode_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert not Display("x", 10, console=Console(file=file, force_terminal=True)).is_live


def test_the_pace_of_prefill_does_not_count() -> None:
    clock = Clock()
    progress = Progress(10_000, 0, clock, elapsed=0)
    for second in range(11):
        clock.now = second
        progress.update(second, 200 * second, "prefill", None)
    assert progress.eta is None and progress.frames_per_second == 200
    for second in range(11, 21):
        clock.now = second
        progress.update(second, 2000 + 10 * (second - 10), "training", None)
    assert progress.frames_per_second == 10
    assert progress.eta == 790
    clock.now += 5
    assert progress.eta == 785


def test_an_evaluation_before_the_first_step_does_not_slow_the_pace() -> None:
    clock = Clock()
    progress = Progress(10_000, 0, clock, elapsed=0)
    progress.update(0, 1000, "prefill", None)
    for second, frames, phase in ((10, 1000, "evaluating"), (50, 1004, "training"), (52, 1024, "training")):
        clock.now = second
        progress.update(second, frames, phase, None)
    assert progress.frames_per_second == 10
    # Later ones are part of what takes time.
    for second, frames, phase in ((60, 1024, "evaluating"), (70, 1184, "training")):
        clock.now = second
        progress.update(second, frames, phase, None)
    assert progress.frames_per_second == 9


def test_a_resumed_run_counts_its_earlier_time() -> None:
    clock = Clock()
    progress = Progress(10_000, 4000, clock, elapsed=100.0)
    clock.now = 10
    progress.update(1, 4000, "training", None)
    clock.now = 20
    progress.update(1, 4100, "training", None)
    assert progress.elapsed == 120.0 and progress.frames_per_second == 10


def test_the_pace_is_that_of_the_last_minutes_and_takes_little_space() -> None:
    clock = Clock()
    progress = Progress(10**9, 0, clock, elapsed=0)
    frames = 0
    for tick in range(10_000):
        clock.now = tick / 10
        frames += 1 if tick < 5000 else 4
        progress.update(tick, frames, "training", None)
    assert progress.frames_per_second == pytest.approx(40, rel=0.01)
    assert len(progress._samples) < 350


def test_history_keeps_the_shape_of_a_long_run() -> None:
    history = History(capacity=8)
    for value in [*range(100), math.nan]:
        history.add(float(value))
    assert len(history.values) < 8
    assert history.values == sorted(history.values)
    assert history.values[0] == pytest.approx(7.5)  # the mean of 0 to 15


def test_sparkline() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([7, math.nan, 0], 8) == "█▁"
    assert sparkline([0, 0, 7, 7], 2) == "▁█"
    assert sparkline([3, 3], 8) == "▄▄"
    assert sparkline([], 8) == sparkline([math.inf], 8) == ""


def test_formats() -> None:
    assert [format_number(x) for x in (0, 3771.26, 8.1, -0.01234, 12345678, 1e-7, math.nan)] == [
        "0.0000", "3,771.3", "8.100", "-0.0123", "1.23e+07", "1.00e-07", "nan"
    ]  # fmt: skip
    assert [format_score(x) for x in (0, 0.98, 1234.56, -21)] == ["0.0", "0.980", "1,234.6", "-21.0"]
    assert [format_duration(x) for x in (None, 7, 3723, 2 * 86400 + 3 * 3600 + 240)] == [
        "--:--", "0:07", "1:02:03", "2d 03:04"
    ]  # fmt: skip
    assert [format_count(x) for x in (12, 51_000, 4_200_718, 22_245_398, 3_000_000_000)] == [
        "12", "51k", "4.2M", "22.2M", "3B"
    ]  # fmt: skip
    assert [format_rate(x) for x in (3, 0.1234, 1234.5)] == ["3", "0.123", "1,234"]
