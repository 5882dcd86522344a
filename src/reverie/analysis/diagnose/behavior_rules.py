"""Rules about critic, actor and the course of learning. Each threshold has its reason."""

from reverie.analysis.diagnose.learning import Gradients
from reverie.analysis.diagnose.suggestions import OPTIMIZERS, entropy, rate, times
from reverie.analysis.diagnose.report import Report
from reverie.analysis.diagnose.rules import Rule
from reverie.analysis.diagnose.values import Comparison

LARGE_BIAS = 0.5
"""Bias in standard deviations of the imagined returns: half of what distinguishes states, so that it is not small."""
LARGE_REPLAY_BIAS = 1.0
"""The same against the replay, whose old policies may well earn less than the present one."""
CERTAIN_BIAS = 3.0
"""Standard errors that a bias must exceed."""
LEAST_SPREAD = 1e-3
"""Standard deviation of returns below which there is nothing to tell apart."""
FOLLOWS = 0.3
"""Correlation of values with single imagined returns, below which they explain less than a tenth of their variance."""
FOLLOWS_REPLAY = 0.1
"""The same with what happened in the replay, where other policies chose and much is chance."""
UNIFORM = 0.95
"""Share of the largest entropy above which actions are as good as random."""
DECIDED = 0.05
"""Share below which next to nothing is left to chance, and exploration has ended."""
ALWAYS = 0.9
"""Share of states that is nearly all."""
SATURATED = 0.5
"""Share of the values of continuous actions at the ends of their range, above which they are the rule."""
INDEPENDENT = 0.01
"""Nats by which the action depends on the state; less is a policy that does not look."""
OFTEN = 0.5
"""Share of rows with clipped gradients that is more often than not: the step is then set by the clip."""
VANISHED = 1e-6
"""Median norm of a gradient that moves nothing, compared with Adam's eps of 1e-5."""
SPIKE = 100.0
"""Times the median, above which a row is a spike."""


def _biased(c: Comparison | None, limit: float, sign: int, what: str) -> str | None:
    if c is None or c.spread < LEAST_SPREAD:
        return None
    if sign * c.bias <= limit * c.spread or abs(c.bias) <= CERTAIN_BIAS * c.bias_error:
        return None
    return (
        f"Values average {c.value:+.3f}, {what} {c.returns:+.3f}: off by {c.bias:+.3f} (± {c.bias_error:.3f}), where "
        f"returns spread by {c.spread:.3f}."
    )


def _lags(r: Report) -> str | None:
    c = r.values.imagined
    return _biased(c, LARGE_BIAS, 1, "imagined returns") or _biased(c, LARGE_BIAS, -1, "imagined returns")


def _over(r: Report) -> str | None:
    return _biased(r.values.replayed, LARGE_REPLAY_BIAS, 1, "returns in the replay")


def _under(r: Report) -> str | None:
    return _biased(r.values.replayed, LARGE_REPLAY_BIAS, -1, "returns in the replay")


def _blind(r: Report) -> str | None:
    kinds = (("imagined", r.values.imagined, FOLLOWS), ("replayed", r.values.replayed, FOLLOWS_REPLAY))
    low = [
        f"{c.correlation:.2f} with {name} returns"
        for name, c, least in kinds
        if c and c.spread >= LEAST_SPREAD and c.correlation is not None and c.correlation < least
    ]
    return f"Values correlate {' and '.join(low)}." if low else None


def _uniform(r: Report) -> str | None:
    share = r.policy.entropy_share
    if share is None or share <= UNIFORM:
        return None
    return f"Entropy {r.policy.entropy:.2f} nats, {share:.0%} of that of random actions."


def _one_action(r: Report) -> str | None:
    p = r.policy
    if p.actions is None or p.certain <= ALWAYS or (p.dependence or 0) >= INDEPENDENT:
        return None
    favourite = max(range(len(p.actions[0])), key=p.actions[0].__getitem__)
    return f"Action {favourite} has {p.actions[0][favourite]:.0%} of the probability, whatever the state."


def _decided(r: Report) -> str | None:
    share = r.policy.entropy_share
    if share is None or share >= DECIDED or _one_action(r):
        return None
    return f"Entropy {r.policy.entropy:.3f} nats, {share:.1%} of the most; certain in {r.policy.certain:.0%} of states."


def _saturated(r: Report) -> str | None:
    if r.policy.kind != "continuous" or r.policy.certain <= SATURATED:
        return None
    return f"{r.policy.certain:.0%} of the values of actions lie at the ends of their range."


def _skipped(r: Report) -> str | None:
    found = r.learning.skipped
    return f"{found:,} of {r.updates:,} updates were skipped, all or in part." if found else None


def _not_finite(r: Report) -> str | None:
    found = r.learning.not_finite
    return f"{found} of {r.learning.rows} rows of metrics hold a number that is not finite." if found else None


def _often_clipped(r: Report) -> dict[str, Gradients]:
    return {name: found for name, found in r.learning.gradients.items() if found.clipped > OFTEN}


def _clipped(r: Report) -> str | None:
    parts = [
        f"{name}: median norm {found.median:.3g}, clip {found.clip:g}, {found.clipped:.0%} of rows"
        for name, found in _often_clipped(r).items()
    ]
    return f"{'; '.join(parts)}." if parts else None


def _clip_advice(r: Report) -> str:
    options = [
        f"{times(r, f'{OPTIMIZERS[name]}.max_grad_norm', 2 * found.median / found.clip)} with {rate(r, name, 0.5)}"
        for name, found in _often_clipped(r).items()
    ]
    return f"A wider clip and a smaller rate: {', '.join(options)}."


def _spikes(r: Report) -> str | None:
    wild = {n: g for n, g in r.learning.gradients.items() if g.largest > SPIKE * g.median and 0 < g.clip < g.largest}
    text = "; ".join(f"{name}: largest norm {g.largest:.3g}, median {g.median:.3g}" for name, g in wild.items())
    return f"{text}." if wild else None


def _vanished(r: Report) -> str | None:
    still = {name: g for name, g in r.learning.gradients.items() if g.median < VANISHED}
    return "; ".join(f"{name}: median norm {g.median:.1e}" for name, g in still.items()) + "." if still else None


def _going(direction: str, r: Report) -> str | None:
    names = (f"model/{r.observation}_loss", "model/reward_loss")
    found = [(n, t) for n in names if (t := r.learning.trends.get(n)) is not None and t.direction == direction]
    text = "; ".join("{1} from {0[1]} to {0[0]}".format(t.texts(), name) for name, t in found)
    return f"{text} (last quarter of the rows against the one before)." if found else None


BEHAVIOR_RULES: tuple[Rule, ...] = (
    Rule(
        "critic-lagging", "value", "warning", _lags,
        "The critic does not reach the returns that it is trained on: they change faster than it follows.",
        lambda r: f"More updates per step, {times(r, 'training.train_steps', 2)}, or a faster critic, "
        f"{rate(r, 'critic', 2)}.",
        early=False,
    ),
    Rule(
        "critic-uncorrelated", "value", "note", _blind,
        "The critic hardly tells good states from bad ones, and so the actor's advantages are mostly noise.",
        lambda r: "First correct what the sections on prediction and reward name; then a faster critic, "
        f"{rate(r, 'critic', 2)}, or newer targets, {times(r, 'behavior.critic.target_update_interval', 0.5)}.",
        early=False,
    ),
    Rule(
        "values-too-high", "value", "warning", _over,
        "The critic promises more than was ever earned. Part of that may be a better policy than those in the replay; "
        "the rest is wishful imagination.",
        lambda r: f"Trust the model over fewer steps, {times(r, 'behavior.return_lambda', 0.9)} or "
        f"{times(r, 'behavior.horizon', 2 / 3)}; see the reward and discount sections first.",
        early=False,
    ),
    Rule(
        "values-too-low", "value", "warning", _under,
        "The critic promises less than even older policies earned: rewards are missed or ends imagined.",
        lambda r: f"See the reward and discount sections; then more updates, {times(r, 'training.train_steps', 2)}.",
        early=False,
    ),
    Rule(
        "actor-uniform", "actor", "warning", _uniform,
        "The actor acts at random: it has found nothing that is worth more than entropy, or has not learnt yet.",
        lambda r: f"If rewards are predicted, {entropy(r, 0.3)}; if not, mend that first.",
        early=False,
    ),
    Rule(
        "actor-one-action", "actor", "problem", _one_action,
        "The actor does the same everywhere and no longer explores, so that nothing new comes into the replay.",
        lambda r: f"More entropy, {entropy(r, 10)}, in a new run: a policy that is certain hardly has a gradient.",
    ),
    Rule(
        "actor-entropy-low", "actor", "warning", _decided,
        "Exploration has ended. Fine at the end of a run whose score is good, and early if it is not.",
        lambda r: f"{entropy(r, 3)}, or some noise, --behavior.actor.exploration-noise 0.05.",
    ),
    Rule(
        "actor-saturated", "actor", "warning", _saturated,
        "Most actions are at the limit, where the actor's gradient is small. Fine where full force is best.",
        lambda r: f"If it is not, {entropy(r, 10)}.",
    ),
    Rule(
        "not-finite", "learning", "problem", _not_finite,
        "Once a weight is not a number, all that follows from it is lost.",
        lambda r: f"Go on from an older checkpoint, with --precision fp32 and {rate(r, 'model', 0.5)}.",
    ),
    Rule(
        "updates-skipped", "learning", "warning", _skipped,
        "Their losses or gradients were not finite. Weights are sound, but nothing was learnt from these batches.",
        lambda r: f"{rate(r, 'model', 0.5)}, or --precision fp32; --max-nonfinite-updates 0 shows the first one.",
    ),
    Rule(
        "gradients-clipped", "learning", "warning", _clipped,
        "The clip, not the loss, decides how far a step goes, in most updates.",
        _clip_advice,
    ),
    Rule(
        "gradient-spikes", "learning", "note", _spikes,
        "Single updates are far out of line; clipping has caught them. Many of them come before a run that diverges.",
        lambda r: f"{rate(r, 'model', 0.5)} if losses jump at the same time.",
    ),
    Rule(
        "gradients-vanished", "learning", "problem", _vanished,
        "Nothing moves any more: a loss is constant, weighted with zero, or cut off from what it should train.",
        lambda r: "Look for zeros among the scales and learning rates in the run's config.toml; nothing else stops a "
        "gradient altogether.",
        early=False,
    ),
    Rule(
        "losses-rising", "learning", "warning", lambda r: _going("rising", r),
        "The model gets worse at what is in the replay: experience that it has not caught up with, or too large steps.",
        lambda r: f"New experience passes; if it lasts, {rate(r, 'model', 0.5)}.",
        early=False,
    ),
    Rule(
        "still-learning", "learning", "note", lambda r: _going("falling", r),
        "The model still gets better, so that what it lacks may come by itself.",
        lambda r: f"Train longer: {times(r, 'training.steps', 2)}.",
    ),
)  # fmt: skip
"""In the order of a page."""
