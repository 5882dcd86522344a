"""The display: it fits a terminal, prints plain lines elsewhere, and shows what it is given."""

import io
import logging
import math

import pytest
from rich.console import Console

from reverie.training.callbacks import EvaluationResult
from reverie.training.collectors import Episode
from reverie.training.display import Display
from reverie.training.numbers import format_count, format_duration, format_number, format_rate, format_score, short_name

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


def evaluated(score: float) -> EvaluationResult:
    return EvaluationResult(0, (Episode(score, 1),))


def busy_display(console: Console, clock: Clock) -> Display:
    """A display in the middle of a run."""
    display = Display(
        "ALE/Boxing-v5", 25_000, 4, facts="atari-small · 4.2M parameters · cpu", live=True, console=console, clock=clock
    )
    for index in range(39):
        clock.now += 7.5
        display.update(250 * index, metrics={**METRICS, "model/kl": 12.0 - index / 10})
        display.on_episode(Episode(float(index - 14), 1783))
    display.on_evaluation(evaluated(17.25))
    display.on_evaluation(evaluated(-3.0))
    return display


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_panel_is_as_wide_as_the_terminal_and_at_most_80(width: int) -> None:
    console = terminal(width)
    console.print(busy_display(console, Clock()).panel())
    assert {len(line) for line in console.export_text().splitlines()} == {min(width, 80)}


def test_panel_in_80_columns_fits_in_24_rows() -> None:
    console = terminal()
    console.print(busy_display(console, Clock()).panel())
    assert len(console.export_text().splitlines()) <= 24


def test_panel_has_steps_frames_pace_scores_and_metrics() -> None:
    console = terminal()
    console.print(busy_display(console, Clock()).panel())
    text = console.export_text()
    for part in (
        *("ALE/Boxing-v5", "atari-small · 4.2M parameters · cpu", "training", "38%", "9,500 of 25,000 steps"),
        *("38,000 frames", "133 f/s", "2.17 updates/s", "4:52 elapsed", "7:45 left", "3,771.2", "-0.0123", "8.200"),
    ):
        assert part in text, part
    assert text.split("return")[1].split()[0] == "19.5"
    assert text.split("eval")[1].split()[0] == "-3.0"
    assert text.split("best")[1].split()[0] == "17.2"


def test_panel_before_the_first_update_has_no_numbers() -> None:
    console = terminal()
    console.print(Display("CartPole-v1", 1000, live=True, console=console, clock=Clock()).panel())
    text = console.export_text()
    assert "starting" in text and "0 of 1,000 steps" in text and "nan" not in text and "frames" not in text


def test_panel_of_vector_observations_has_their_loss() -> None:
    console = terminal()
    display = Display("CartPole-v1", 1000, live=True, console=console, clock=Clock())
    display.update(10, metrics={"model/vector_loss": 3.7, "model/kl": math.nan})
    console.print(display.panel())
    text = console.export_text()
    assert "vector" in text and "image" not in text and "nan" in text


def test_panel_shows_brackets_in_names_as_they_are() -> None:
    console = terminal()
    display = Display("Odd[/]Env-v0", 1000, facts="[bold]", live=True, console=console, clock=Clock())
    display.update(10, metrics={"model/[red]_loss": 3.7})
    console.print(display.panel())
    text = console.export_text()
    assert all(name in text for name in ("Odd[/]Env-v0", "[bold]", "[red]"))


def test_live_view_keeps_messages_and_restores_the_cursor() -> None:
    console = terminal()
    with Display("CartPole-v1", 1000, console=console, live=True) as display:
        display.update(1000, "finished")
        display.log("a checkpoint [of] sorts")
    assert "a checkpoint [of] sorts" in printed(console)
    assert "100%" in printed(console) and "\x1b[?25h" in printed(console)


def test_plain_lines_come_at_intervals_and_at_the_end() -> None:
    clock = Clock()
    console = Console(file=io.StringIO(), width=40)
    with Display("ALE/Pong-v5", 1_000, 4, facts="atari", console=console, clock=clock) as display:
        assert not display.is_live
        for step in range(0, 401):
            clock.now = step / 10
            if step == 110:
                display.on_episode(Episode(4.0, 100))
                display.on_evaluation(evaluated(5.0))
            display.update(step, metrics=METRICS if step > 100 else None)
        display.log("saved [bold]x[/bold]")
    lines = printed(console).splitlines()
    assert lines[0] == "ALE/Pong-v5  atari"
    # At 0, 10, 20, 30 and 40 seconds, and once at the end.
    assert [line.split("/")[0] for line in lines[1:6]] == ["0", "100", "200", "300", "400"]
    assert lines[3] == (
        "200/1,000 steps  800 frames   20%  eta 1:20  return 4.0  eval 5.0  best 5.0  image 3,771.2  kl 8.125  "
        "40 f/s  2.17 updates/s"
    )
    assert lines[6] == "saved [bold]x[/bold]"
    assert len(lines) == 8 and all(line.isascii() for line in lines)


def test_quiet_display_prints_nothing_and_logs_messages(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="reverie")
    console = Console(file=io.StringIO(), force_terminal=True)
    with Display("ALE/Pong-v5", 1_000, console=console, is_quiet=True) as display:
        display.update(10)
        display.log("a message")
    assert printed(console) == "" and not display.is_live
    assert "a message" in caplog.messages


@pytest.mark.parametrize(
    ("environment", "live"),
    [({}, True), ({"CI": "true"}, False), ({"TERM": "dumb"}, False)],
)
def test_is_live_only_on_a_terminal_outside_of_ci(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], live: bool
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    console = Console(file=io.StringIO(), force_terminal=True)
    assert Display("x", 10, console=console).is_live is live
    assert not Display("x", 10, console=Console(file=io.StringIO(), force_terminal=False)).is_live


def test_is_live_without_unicode_is_false(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert not Display("x", 10, console=Console(file=file, force_terminal=True)).is_live


def test_pace_of_the_prefill_does_not_count() -> None:
    clock = Clock()
    display = Display("x", 10_000, live=False, console=Console(file=io.StringIO()), clock=clock)
    for second in range(11):
        clock.now = second
        display.update(200 * second, "prefill")
    assert "eta" not in display.plain_line() and "200 f/s" in display.plain_line()
    for second in range(11, 21):
        clock.now = second
        display.update(2000 + 10 * (second - 10), "training")
    assert "eta 13:10" in display.plain_line() and "10 f/s" in display.plain_line()


def test_pace_of_fast_steps_is_that_of_five_minutes() -> None:
    clock = Clock()
    display = Display("x", 1_000_000, live=False, console=Console(file=io.StringIO()), clock=clock)
    for step in range(0, 20_000):  # 100 a second for 100 seconds, then 200 a second
        clock.now += 0.01 if step < 10_000 else 0.005
        display.update(step)
    assert "133 f/s" in display.plain_line() and display.plain_line().startswith("19,999/")


def test_resumed_display_counts_earlier_time_and_not_earlier_steps() -> None:
    clock, console = Clock(), terminal()
    display = Display("x", 10_000, step=4000, elapsed=100.0, live=True, console=console, clock=clock)
    for step in (4000, 4100, 4200):
        clock.now += 10
        display.update(step)
    console.print(display.panel())
    text = console.export_text()
    assert "2:10 elapsed" in text and "10 f/s" in text


def test_formats_have_few_digits() -> None:
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
    assert [short_name(x) for x in ("model/image_loss", "model/prior_entropy", "kl")] == [
        "image",
        "prior entropy",
        "kl",
    ]
