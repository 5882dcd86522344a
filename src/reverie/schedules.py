"""Numbers that change while training: `0.1`, or `"linear(0.1,0,2500000)"`.

Schedules count agent steps (environment frames divided by the action repeat), as the release does.
"""

import re
from collections.abc import Callable

from reverie.errors import ConfigError

Schedule = float | str
"""A constant, or one of the forms of `FORMS` as text."""


def _linear(step: float, initial: float, final: float, duration: float) -> float:
    mix = min(max(step / duration, 0.0), 1.0)
    return (1 - mix) * initial + mix * final


def _warmup(step: float, duration: float, value: float) -> float:
    return min(max(step / duration, 0.0), 1.0) * value


def _exp(step: float, initial: float, final: float, halflife: float) -> float:
    return float((initial - final) * 0.5 ** (step / halflife) + final)


def _horizon(step: float, initial: float, final: float, duration: float) -> float:
    mix = min(max(step / duration, 0.0), 1.0)
    return 1 - 1 / ((1 - mix) * initial + mix * final)


FORMS: dict[str, tuple[Callable[..., float], int]] = {
    "linear": (_linear, 3),  # linear(initial, final, steps)
    "warmup": (_warmup, 2),  # warmup(steps, value): from 0 up to value
    "exp": (_exp, 3),  # exp(initial, final, halflife)
    "horizon": (_horizon, 3),  # horizon(initial, final, steps): 1 - 1/horizon, for discounts
}


def parse_schedule(text: Schedule, field: str = "schedule") -> Callable[[float], float]:
    """Turn a schedule into a function from agent steps to its value.

    Source: `common/other.py:schedule` of the release (golden file 16).

    Raises:
        ConfigError: if the text is none of the known forms; `field` is named in the message.
    """
    try:
        constant = float(text)
    except ValueError:
        pass
    else:
        return lambda step: constant
    match = re.fullmatch(r"\s*(\w+)\s*\(([^()]*)\)\s*", str(text))
    form, arity = FORMS.get(match.group(1), (None, 0)) if match else (None, 0)
    try:
        arguments = [float(part) for part in match.group(2).split(",")] if match else []
    except ValueError:
        arguments = []
    if form is None or len(arguments) != arity:
        raise ConfigError(
            f"{field}: '{text}' is not a schedule; write a number or one of "
            "linear(from,to,steps), warmup(steps,value), exp(from,to,halflife), horizon(from,to,steps)."
        )
    function = form
    return lambda step: function(step, *arguments)
