"""Numbers that change while training: `0.1`, or `"linear(0.1,0,2500000)"`.

Durations count agent steps, that is, environment frames divided by the action repeat, as in the release. With the word
`frames` they count frames, as in the article: `"linear(0.1,0,10e6 frames)"`.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from reverie.errors import ConfigError

Schedule = float | str
"""A constant, or one of `FORMS` as text."""


def _linear(step: float, initial: float, final: float, duration: float) -> float:
    mix = min(max(step / duration, 0.0), 1.0)
    return (1 - mix) * initial + mix * final


FORMS: dict[str, tuple[Callable[..., float], int, int]] = {
    # linear(initial, final, steps)
    "linear": (_linear, 3, 2),
    # warmup(steps, value): from 0 up to value
    "warmup": (lambda step, duration, value: _linear(step, 0.0, value, duration), 2, 0),
    # exp(initial, final, halflife)
    "exp": (lambda step, initial, final, halflife: (initial - final) * 0.5 ** (step / halflife) + final, 3, 2),
    # horizon(initial, final, steps): 1 - 1/horizon, for discounts
    "horizon": (lambda step, initial, final, duration: 1 - 1 / _linear(step, initial, final, duration), 3, 2),
}
"""Functions by name, each with its number of arguments after the step and the index of the duration among them."""

FRAMES = re.compile(r"^(.*\S)\s*frames$", re.DOTALL)


def parse_schedule(
    text: Schedule, field: str = "schedule", frames_per_step: float | None = None
) -> Callable[[float], float]:
    """Return the function from agent steps to values that a schedule describes.

    Source: `common/other.py:schedule` of the release (golden file 16); durations in frames are reverie's.

    Args:
        text: a number, or one of `FORMS`.
        field: name of the setting, for the message of an error.
        frames_per_step: environment frames of an agent step; needed for durations in frames.

    Raises:
        ConfigError: if the text is none of the forms, its duration is not above 0, or it counts frames without
            `frames_per_step`.
    """
    with suppress(ValueError):
        constant = float(text)
        return lambda step: constant
    match = re.fullmatch(r"\s*(\w+)\s*\(([^()]*)\)\s*", str(text))
    form, arity, duration = FORMS.get(match.group(1), (None, 0, 0)) if match else (None, 0, 0)
    texts = [part.strip() for part in match.group(2).split(",")] if match else []
    scale = 1.0
    if frames_per_step and len(texts) > duration and (frames := FRAMES.match(texts[duration])):
        texts[duration], scale = frames.group(1), frames_per_step
    try:
        arguments = [float(part) for part in texts]
    except ValueError:
        arguments = []
    if form is None or len(arguments) != arity or not arguments[duration] > 0:
        raise ConfigError(
            f"{field}: '{text}' is not a schedule; write a number or one of linear(from,to,steps), "
            "warmup(steps,value), exp(from,to,halflife), horizon(from,to,steps), with durations in agent steps or, "
            "with that word behind them, frames: linear(0.1,0,10e6 frames)."
        )
    function = form
    arguments[duration] /= scale
    return lambda step: function(step, *arguments)


def in_steps(text: Any, frames_per_step: int) -> Any:
    """Return a schedule with its duration in agent steps: at 4 frames a step, `40 frames` become `10.0`.

    Other values are returned as they are.
    """
    if not isinstance(text, str) or not re.search(r"frames\s*[,)]", text):
        return text
    return re.sub(r"([^(),]+?)\s*frames", lambda match: repr(float(match.group(1)) / frames_per_step), text)
