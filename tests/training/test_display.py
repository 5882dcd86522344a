"""The display: it fits a terminal, prints plain lines elsewhere, and shows what it is given."""

import io
import logging
import math
import re
from pathlib import Path

import pytest
from rich.console import Console

from reverie.training.display import Display
from reverie.training.numbers import format_duration, format_number

METRICS = {
    "episode/return": 19.5,
    "eval/return": -3.0,
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
}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def terminal(width: int = 80) -> Console:
    return Console(file=io.StringIO(), record=True, force_terminal=True, width=width, height=24)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def shown(display: Display) -> str:
    display.console.print(display.view())
    return display.console.export_text()


def busy_display(console: Console) -> Display:
    """A display in the middle of a run."""
    clock = Clock()
    display = Display("ALE/Boxing-v5 · 4.2M", 25_000, 4, console=console, clock=clock)
    for index in range(39):
        clock.now += 7.5
        display.update(250 * index, metrics={**METRICS, "model/kl": 12.0 - index / 10})
    return display


@pytest.mark.parametrize("width", [60, 80, 120])
def test_view_fits_the_terminal(width: int) -> None:
    lines = shown(busy_display(terminal(width))).splitlines()
    assert len(lines) <= 24 and max(len(line) for line in lines) <= width


def test_view_has_steps_frames_pace_scores_and_metrics() -> None:
    text = shown(busy_display(terminal()))
    for part in (
        *("ALE/Boxing-v5 · 4.2M", "training", "38%", "9,500/25,000 steps", "38,000 frames", "133 f/s"),
        *("0:07:45 left", "episode/return 19.5", "eval/return -3", "model/image_loss 3,771.2", "model/kl 8.2"),
    ):
        assert part in text, part


def test_view_before_the_first_update_has_no_numbers() -> None:
    text = shown(Display("CartPole-v1", 1000, console=terminal(), clock=Clock()))
    assert "starting" in text and "0/1,000 steps" in text and "nan" not in text and "frames" not in text


def test_view_of_vector_observations_has_their_loss() -> None:
    display = Display("CartPole-v1", 1000, console=terminal(), clock=Clock())
    display.update(10, metrics={"model/vector_loss": 3.7, "model/kl": math.nan})
    text = shown(display)
    assert "model/vector_loss 3.7" in text and "image" not in text and "model/kl nan" in text


def test_view_shows_brackets_in_names_as_they_are() -> None:
    display = Display("Odd[/]Env-v0 [bold]", 1000, console=terminal(), clock=Clock())
    display.update(10, metrics={"model/[red]_loss": 3.7})
    assert "Odd[/]Env-v0 [bold]" in (text := shown(display)) and "[red]" in text


def test_live_view_keeps_messages_and_restores_the_cursor() -> None:
    console = terminal()
    with Display("CartPole-v1", 1000, console=console) as display:
        assert display.is_live
        display.update(1000, "finished")
        display.log("a checkpoint [of] sorts")
    assert "a checkpoint [of] sorts" in printed(console)
    assert "100%" in printed(console) and "\x1b[?25h" in printed(console)


def test_plain_lines_come_at_intervals_and_at_the_end() -> None:
    clock = Clock()
    console = Console(file=io.StringIO(), width=40)
    with Display("ALE/Pong-v5 atari", 1_000, 4, console=console, clock=clock) as display:
        assert not display.is_live
        for step in range(0, 401):
            clock.now = step / 10
            display.update(step, metrics=METRICS if step > 100 else None)
        display.log("saved [bold]x[/bold]")
    lines = printed(console).splitlines()
    assert lines[0] == "ALE/Pong-v5 atari"
    # At 0, 10, 20, 30 and 40 seconds, and once at the end.
    assert [line.split("/")[0] for line in lines[1:6]] == [f"training  {n}" for n in (0, 100, 200, 300, 400)]
    assert lines[3] == (
        "training  200/1,000 steps  800 frames  20%  0:01:20 left  40 f/s  episode/return 19.5  eval/return -3  "
        "model/image_loss 3,771.2  model/kl 8.125"
    )
    assert lines[6] == "saved [bold]x[/bold]"
    assert len(lines) == 8 and all(line.isascii() for line in lines)


def test_quiet_display_prints_nothing_and_logs_messages(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="reverie")
    console = terminal()
    with Display("ALE/Pong-v5", 1_000, is_quiet=True, console=console) as display:
        display.update(10)
        display.log("a message")
    assert printed(console) == "" and not display.is_live
    assert "a message" in caplog.messages


def test_messages_are_added_to_a_file_with_time_and_step_and_progress_is_not(tmp_path: Path) -> None:
    for step in (5_000, 9_000):
        file = tmp_path / "messages.log"
        with Display("title", 10_000, step=step, is_quiet=step == 9_000, console=terminal(), file=file) as display:
            display.log(f"At [{step}]")
            display.update(step + 1)
    lines = file.read_text().splitlines()
    assert [re.sub(r"^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} ", "", line) for line in lines] == [
        "step 5,000: At [5000]",
        "step 9,000: At [9000]",
    ]


def test_message_that_cannot_be_written_is_printed_all_the_same(tmp_path: Path) -> None:
    console = terminal()
    Display("title", 10, console=console, file=tmp_path / "gone" / "messages.log").log("Kept.")
    assert "Kept." in printed(console)


@pytest.mark.parametrize(("variable", "value"), [("CI", "true"), ("TERM", "dumb")])
def test_is_live_only_on_a_terminal_outside_of_ci(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    assert Display("x", 10, console=terminal()).is_live
    assert not Display("x", 10, console=Console(file=io.StringIO(), force_terminal=False)).is_live
    monkeypatch.setenv(variable, value)
    assert not Display("x", 10, console=terminal()).is_live


def test_is_live_without_unicode_is_false() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert not Display("x", 10, console=Console(file=file, force_terminal=True)).is_live


def test_pace_of_the_prefill_does_not_count() -> None:
    clock = Clock()
    display = Display("x", 10_000, console=Console(file=io.StringIO()), clock=clock)
    for second in range(11):
        clock.now = second
        display.update(200 * second, "prefill")
    assert "left" not in display.plain_line() and "200 f/s" in display.plain_line()
    for second in range(11, 21):
        clock.now = second
        display.update(2000 + 10 * (second - 10), "training")
    assert "0:13:10 left" in display.plain_line() and "10 f/s" in display.plain_line()


def test_pace_of_fast_steps_is_that_of_five_minutes() -> None:
    clock = Clock()
    display = Display("x", 1_000_000, console=Console(file=io.StringIO()), clock=clock)
    for step in range(0, 20_000):  # 100 a second for 100 seconds, then 200 a second
        clock.now += 0.01 if step < 10_000 else 0.005
        display.update(step)
    assert "  133 f/s" in display.plain_line() and "19,999/" in display.plain_line()


def test_pace_of_a_resumed_run_does_not_count_earlier_steps() -> None:
    clock = Clock()
    display = Display("x", 10_000, step=4000, console=Console(file=io.StringIO()), clock=clock)
    for step in (4000, 4100, 4200):
        clock.now += 10
        display.update(step)
    assert "10 f/s" in display.plain_line()


def test_formats_have_few_digits() -> None:
    assert [format_number(x) for x in (0, 3771.26, 8.1, -0.012345678, 1234567.8, 1e12, 1e-7, math.nan)] == [
        "0", "3,771.3", "8.1", "-0.012346", "1,234,568", "1e+12", "1e-07", "nan"
    ]  # fmt: skip
    assert [format_duration(x) for x in (None, math.inf, 7, 3723, 2 * 86400 + 3 * 3600 + 240)] == [
        "-:--:--", "-:--:--", "0:00:07", "1:02:03", "2 days, 3:04:00"
    ]  # fmt: skip
