"""Conditions of the rules, whose texts are in rules.toml. Each threshold has its reason."""

import math
from collections.abc import Callable
from typing import Any

from reverie.analysis.diagnose.heads import recall
from reverie.analysis.diagnose.learning import OFTEN, Trend
from reverie.analysis.diagnose.prediction import MARGIN
from reverie.analysis.diagnose.report import Report
from reverie.analysis.format import Measures

ENOUGH_UPDATES = 1000
"""Updates below which a finding about what was learnt is only a note: the target critic has been copied ten times at
most, and even the small tasks of the learning proofs (docs/results.md) take some 1,300."""
COLLAPSED_KL = 0.5
"""Nats of KL, all variables together: less than one bit a step is next to nothing about an observation."""
LIKE_MEAN = 0.9
"""Reconstruction error as a share of the mean image's, above which the model has learnt little else than that image."""
BACKGROUND = 0.5  # the same share, above which most of what distinguishes one image from another is missing
HIGH_KL = 1.0  # nats of KL per variable: of the log 32 = 3.5 nats of a complete surprise, the prior then misses a third
DETERMINISTIC = 0.02  # share of the largest entropy below which all variables are as good as fixed by the observation
MOST = 0.5  # more than this share of variables or classes is most of them
FINE = 0.002  # mean squared error per pixel, in units of white: deviations of 4.5%, which eyes hardly see
NEAR = 5  # horizons 1 to 5 count as near
LOW_RECALL = 0.3
"""Share of a reward's size that is predicted, on average, where it comes; below it, most such events are missed."""
EVENTS = 10  # fewest steps with rewards from which a rule concludes anything; of ends, which are rarer, half as many
MISSED_END = 0.5  # share of gamma: predicted discounts above it, at an end, say that the episode probably continues
FALSE_ENDS = 0.01
"""Probability of an end, beyond the actual rate, that is predicted in every step: an imagined rollout of 15 steps then
loses a seventh of its weight."""
OVERFITTED = 0.6
"""Share of what the model knows of its own replay that it still knows of a holdout, below which it overfitted. The
policies of the two runs differ, too, so that some loss is no sign of that."""
KNOWN = 0.2  # share of the rewards' variance that must be explained in its own replay before there is something to lose
COMPARABLE = 50
"""Fewest steps with rewards on both sides of that comparison: two samples of one replay with 13 of them differ as much
as that in 14 % of cases, with 44 in 2 % (docs/diagnose.md)."""
LOST = 0.1
"""Reconstruction error in a holdout, as a share of the mean observation's, below which the model sees well there."""
LARGE_BIAS = 0.5
"""Bias in standard deviations of the imagined returns: half of what distinguishes states, so that it is not small."""
LARGE_REPLAY_BIAS = 1.0  # the same for the replay, whose old policies may well earn less than the present one
CERTAIN_BIAS = 3.0  # standard errors that a bias must exceed
LEAST_SPREAD = 1e-3  # standard deviation of returns below which states do not differ
CORRELATED = 0.3
"""Correlation of values with single imagined returns, below which they explain less than a tenth of their variance."""
CORRELATED_REPLAY = 0.1  # the same for the returns of the replay, where other policies chose and much is chance
UNIFORM = 0.95  # share of the largest entropy above which actions are as good as random
DECIDED = 0.05  # share below which next to nothing is left to chance, and exploration has ended
ALWAYS = 0.9  # share of states that is nearly all
SATURATED = 0.5  # share of the values of continuous actions at the ends of their range, above which they are the rule
INDEPENDENT = 0.01  # nats by which the action depends on the state; with less, a policy ignores it
VANISHED = 1e-6  # median norm of a gradient that moves nothing, compared with Adam's eps of 1e-5
SPIKE = 100.0  # times the median, above which a row is a spike


def number(value: float | None) -> float:
    """Return nan for None, with which no comparison holds."""
    return math.nan if value is None else value


def _is_collapsed(r: Report) -> bool:
    """Return whether the posterior has collapsed; rules about its consequences are silent then."""
    return bool(r.latents.kl < COLLAPSED_KL and not number(r.reconstruction) < LIKE_MEAN)


def _collapsed(r: Report) -> str:
    if not _is_collapsed(r):
        return ""
    share = r.reconstruction
    return "." if share is None else f"; reconstruction error {share:.0%} of the mean observation's."


def _rising(r: Report) -> Trend | None:
    kl, loss = (r.learning.trends.get(f"model/{name}") for name in ("kl", f"{r.observation}_loss"))
    is_rising = kl is not None and kl.direction == "rising" and not (loss and loss.direction == "falling")
    return kl if is_rising else None


def _unused_classes(r: Report) -> int | None:
    """Return the number of classes of all variables, if most of them are unused."""
    total = r.latents.variables * (r.latents.classes or 0)
    return total if number(r.latents.unused_classes) > MOST * total and not _is_collapsed(r) else None


def _is_background(r: Report) -> bool:
    return number(r.reconstruction) > BACKGROUND and not _is_collapsed(r)


def _near(r: Report) -> float:
    """Return the error over near horizons as a share of that of repeating the last observation; nan if unknown."""
    return number(r.predictions[r.observation].share_of("repeat", 1, NEAR) if r.observation else None)


def _repeats(r: Report) -> tuple[float, float] | None:
    error, share = number(r.predictions[r.observation].model[0] if r.observation in r.images else None), _near(r)
    return (error, share) if error < FINE and share >= MARGIN else None


def _worse(r: Report) -> float | None:
    is_explained = _repeats(r) or _short(r) or _is_background(r) or _is_collapsed(r)
    return _near(r) if _near(r) > 1 and not is_explained else None


def _short(r: Report) -> str:
    if not r.observation or _is_collapsed(r):
        return ""
    found, needed = r.predictions[r.observation], r.config.behavior.horizon
    span, reach = found.useful(), len(found.model) - 1
    if span is None:
        naive = "repeating the last observation or showing the mean"
        return f"At no horizon up to {reach} is the model better than {naive}."
    if span[1] >= min(needed, reach):
        return ""
    return f"Better than naive predictions from {span[0]} to {span[1]} steps ahead only; the actor plans {needed}."


def _missed_rewards(r: Report) -> str:
    groups = r.rewards.groups
    missed = [
        f"where a {sign} reward comes ({groups[sign].count} steps, mean {groups[sign].actual:+.2f}), "
        f"{groups[sign].predicted:+.3f} is predicted"
        for sign in ("positive", "negative")
        if sign in groups and groups[sign].count >= EVENTS and number(recall(r.rewards, sign)) < LOW_RECALL
    ]
    if not missed or "zero" not in groups:
        return ""
    return f"W{', and '.join(missed)[1:]}; {groups['zero'].predicted:+.3f} where none comes."


def _num_rewards(r: Report) -> int:
    return sum(there.count for name, there in r.rewards.groups.items() if name != "zero")


def _rewards_overfitted(r: Report) -> tuple[float, float] | None:
    if r.holdout is None or min(map(_num_rewards, (r, r.holdout))) < COMPARABLE:
        return None
    own, other = number(r.rewards.explained), number(r.holdout.rewards.explained)
    return (own, max(other, 0.0)) if own >= KNOWN and other < OVERFITTED * own else None


def _is_lost_elsewhere(r: Report) -> bool:
    own, other = number(r.reconstruction), number(r.holdout.reconstruction if r.holdout else None)
    return other >= LOST and own < OVERFITTED * other and not _is_collapsed(r)


def _bias(values: Measures | None, limit: float) -> float:
    """Return the bias of the values if it is large and certain, 0 otherwise."""
    if values is None or values.spread < LEAST_SPREAD:
        return 0.0
    is_large = abs(values.bias) > max(limit * values.spread, CERTAIN_BIAS * values.bias_error)
    return float(values.bias) if is_large else 0.0


def _uncorrelated(r: Report) -> str:
    kinds = (("imagined", r.values.imagined, CORRELATED), ("replayed", r.values.replayed, CORRELATED_REPLAY))
    return " and ".join(
        f"{c.correlation:.2f} with {name} returns"
        for name, c, least in kinds
        if c and c.spread >= LEAST_SPREAD and number(c.correlation) < least
    )


def _one_action(r: Report) -> tuple[int, float] | None:
    """Return the most probable action and its mean probability, if the actor knows no other."""
    p = r.policy
    if p.actions is None or p.certain <= ALWAYS or (p.dependence or 0) >= INDEPENDENT:
        return None
    return max(enumerate(p.actions[0]), key=lambda pair: pair[1])


def _gradients(condition: Callable[[Measures], bool], text: str) -> Callable[[Report], str]:
    """Return a function that describes the optimizers for which a condition holds."""
    return lambda r: "; ".join(
        text.format(name=name, g=found) for name, found in r.learning.gradients.items() if condition(found)
    )


def _losses(r: Report, direction: str) -> str:
    """Describe the losses of observation and reward with this trend."""
    trends = {name: r.learning.trends.get(name) for name in (f"model/{r.observation}_loss", "model/reward_loss")}
    found = {name: trend.texts() for name, trend in trends.items() if trend and trend.direction == direction}
    return "; ".join(f"{name} from {before} to {latest}" for name, (latest, before) in found.items())


CONDITIONS: dict[str, Callable[[Report], Any]] = {
    "too-early": lambda r: r.updates < ENOUGH_UPDATES,
    "posterior-collapse": _collapsed,
    "kl-high": lambda r: each if (each := r.latents.kl / r.latents.variables) > HIGH_KL else None,
    "kl-rising": _rising,
    "deterministic-latents": lambda r: (
        number(r.latents.posterior_entropy_share) < DETERMINISTIC and not _is_collapsed(r)
    ),
    "unused-variables": lambda r: r.latents.unused_variables > MOST * r.latents.variables and not _is_collapsed(r),
    "unused-classes": _unused_classes,
    "background-only": _is_background,
    "repeats-the-image": _repeats,
    "worse-than-repeating": _worse,
    "horizon-short": _short,
    "observations-overfitting": _is_lost_elsewhere,
    "reward-recall-low": _missed_rewards,
    "rewards-overfitting": _rewards_overfitted,
    "no-rewards": lambda r: str(_num_rewards(r)) if _num_rewards(r) < EVENTS else "",
    "ends-missed": lambda r: (
        r.discounts
        and r.discounts.terminals >= EVENTS / 2
        and number(r.discounts.on_terminal) > MISSED_END * r.discounts.gamma
    ),
    "false-ends": lambda r: r.discounts and r.discounts.predicted_end_rate - r.discounts.end_rate > FALSE_ENDS,
    "critic-lagging": lambda r: _bias(r.values.imagined, LARGE_BIAS),
    "critic-uncorrelated": _uncorrelated,
    "values-too-high": lambda r: _bias(r.values.replayed, LARGE_REPLAY_BIAS) > 0,
    "values-too-low": lambda r: _bias(r.values.replayed, LARGE_REPLAY_BIAS) < 0,
    "actor-uniform": lambda r: number(r.policy.entropy_share) > UNIFORM,
    "actor-one-action": _one_action,
    "actor-entropy-low": lambda r: number(r.policy.entropy_share) < DECIDED and not _one_action(r),
    "actor-saturated": lambda r: r.policy.kind == "continuous" and r.policy.certain > SATURATED,
    "not-finite": lambda r: r.learning.not_finite,
    "updates-skipped": lambda r: r.learning.skipped,
    "gradients-clipped": _gradients(
        lambda g: g.clipped > OFTEN, "{name}: median norm {g.median:.3g}, clip {g.clip:g}, {g.clipped:.0%} of rows"
    ),
    "gradient-spikes": _gradients(
        lambda g: g.largest > SPIKE * g.median and 0 < g.clip < g.largest,
        "{name}: largest norm {g.largest:.3g}, median {g.median:.3g}",
    ),
    "gradients-vanished": _gradients(lambda g: g.median < VANISHED, "{name}: median norm {g.median:.1e}"),
    "losses-rising": lambda r: _losses(r, "rising"),
    "still-learning": lambda r: _losses(r, "falling"),
}
"""Values that a rule finds in a report, empty where it does not hold."""
