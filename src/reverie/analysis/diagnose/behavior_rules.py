"""Rules about critic, actor and the course of learning. Each threshold has its reason."""

from collections.abc import Callable

from reverie.analysis.diagnose.learning import Gradients
from reverie.analysis.diagnose.report import Report
from reverie.analysis.diagnose.rules import Rule, number
from reverie.analysis.diagnose.values import Comparison

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


def _bias(c: Comparison | None, limit: float) -> float:
    """Return the bias of the values if it is large and certain, 0 otherwise."""
    if c is None or c.spread < LEAST_SPREAD:
        return 0.0
    return c.bias if abs(c.bias) > max(limit * c.spread, CERTAIN_BIAS * c.bias_error) else 0.0


def _biased(name: str, returns: str) -> str:
    value = f"Values average {{r.values.{name}.value:+.3f}}, {returns} {{r.values.{name}.returns:+.3f}}: "
    off = f"off by {{r.values.{name}.bias:+.3f}} (± {{r.values.{name}.bias_error:.3f}}), "
    return f"{value}{off}where returns spread by {{r.values.{name}.spread:.3f}}."


def _uncorrelated(r: Report) -> str:
    kinds = (("imagined", r.values.imagined, CORRELATED), ("replayed", r.values.replayed, CORRELATED_REPLAY))
    return " and ".join(
        f"{c.correlation:.2f} with {name} returns"
        for name, c, least in kinds
        if c and c.spread >= LEAST_SPREAD and number(c.correlation) < least
    )


def _one_action(r: Report) -> bool:
    p = r.policy
    return p.actions is not None and p.certain > ALWAYS and (p.dependence or 0) < INDEPENDENT


def _gradients(condition: Callable[[Gradients], bool], text: str) -> Callable[[Report], str]:
    """Return a function that describes the optimizers for which a condition holds."""
    return lambda r: "; ".join(
        text.format(name=name, g=found) for name, found in r.learning.gradients.items() if condition(found)
    )


def _losses(direction: str) -> Callable[[Report], str]:
    """Return a function that describes the losses of observation and reward with this trend."""

    def describe(r: Report) -> str:
        names = (f"model/{r.observation}_loss", "model/reward_loss")
        found = {name: trend for name in names if (trend := r.learning.trends.get(name))}
        texts = {name: trend.texts() for name, trend in found.items() if trend.direction == direction}
        return "; ".join(f"{name} from {before} to {latest}" for name, (latest, before) in texts.items())

    return describe


BEHAVIOR_RULES: tuple[Rule, ...] = (
    Rule(
        "critic-lagging", "value", "warning", lambda r: _bias(r.values.imagined, LARGE_BIAS),
        _biased("imagined", "imagined returns"),
        "The critic does not reach the returns that it is trained on: they change faster than it follows.",
        "More updates per step, {option[training.train_steps]:2}, or a faster critic, {lr[critic]:2}.",
    ),
    Rule(
        "critic-uncorrelated", "value", "note", _uncorrelated, "Values correlate {found}.",
        "The critic hardly distinguishes good states from bad ones: the actor's advantages are mostly noise.",
        "First correct what the sections on prediction and reward name; then a faster critic, {lr[critic]:2}, or newer "
        "targets, {option[behavior.critic.target_update_interval]:0.5}.",
    ),
    Rule(
        "values-too-high", "value", "warning", lambda r: _bias(r.values.replayed, LARGE_REPLAY_BIAS) > 0,
        _biased("replayed", "returns in the replay"),
        "The critic predicts more than was ever earned. Part of that may be a better policy than those in the replay; "
        "the rest is wishful imagination.",
        "Trust the model over fewer steps, {option[behavior.return_lambda]:0.9} or {option[behavior.horizon]:2/3}; see "
        "the reward and discount sections first.",
    ),
    Rule(
        "values-too-low", "value", "warning", lambda r: _bias(r.values.replayed, LARGE_REPLAY_BIAS) < 0,
        _biased("replayed", "returns in the replay"),
        "The critic predicts less than even older policies earned: rewards are missed or ends imagined.",
        "See the reward and discount sections; then more updates, {option[training.train_steps]:2}.",
    ),
    Rule(
        "actor-uniform", "actor", "warning", lambda r: number(r.policy.entropy_share) > UNIFORM,
        "Entropy {r.policy.entropy:.2f} nats, {r.policy.entropy_share:.0%} of that of random actions.",
        "The actor acts at random: it has found nothing that is worth more than entropy, or has not learnt yet.",
        "If rewards are predicted, {entropy:0.3}; if not, improve that first.",
    ),
    Rule(
        "actor-one-action", "actor", "problem", _one_action,
        "Action {r.policy.favourite[0]} has {r.policy.favourite[1]:.0%} of the probability, whatever the state.",
        "The actor does the same everywhere and no longer explores, so that nothing new comes into the replay.",
        "More entropy, {entropy:10}, in a new run: a policy that is certain hardly has a gradient.",
        is_early=True,
    ),
    Rule(
        "actor-entropy-low", "actor", "warning",
        lambda r: number(r.policy.entropy_share) < DECIDED and not _one_action(r),
        "Entropy {r.policy.entropy:.3f} nats, {r.policy.entropy_share:.1%} of the most; certain in "
        "{r.policy.certain:.0%} of states.",
        "Exploration has ended. Fine at the end of a run whose score is good, and early if it is not.",
        "{entropy:3}, or some noise, --behavior.actor.exploration-noise 0.05.",
        is_early=True,
    ),
    Rule(
        "actor-saturated", "actor", "warning",
        lambda r: r.policy.kind == "continuous" and r.policy.certain > SATURATED,
        "{r.policy.certain:.0%} of the values of actions lie at the ends of their range.",
        "Most actions are at the limit, where the actor's gradient is small. Fine where full force is best.",
        "If it is not, {entropy:10}.",
        is_early=True,
    ),
    Rule(
        "not-finite", "learning", "problem", lambda r: r.learning.not_finite,
        "{found} of {r.learning.rows} rows of metrics hold a number that is not finite.",
        "Once a weight is not a number, all that follows from it is lost.",
        "Continue from an older checkpoint, with --precision fp32 and {lr[model]:0.5}.",
        is_early=True,
    ),
    Rule(
        "updates-skipped", "learning", "warning", lambda r: r.learning.skipped,
        "{found:,} of {r.updates:,} updates were skipped, all or in part.",
        "Their losses or gradients were not finite. Weights are valid, but nothing was learnt from these batches.",
        "{lr[model]:0.5}, or --precision fp32; --max-nonfinite-updates 0 shows the first one.",
        is_early=True,
    ),
    Rule(
        "gradients-clipped", "learning", "warning",
        _gradients(
            lambda g: g.is_often_clipped, "{name}: median norm {g.median:.3g}, clip {g.clip:g}, {g.clipped:.0%} of rows"
        ),
        "{found}.",
        "The clip, not the loss, decides how far a step goes, in most updates.",
        "A wider clip and a smaller rate: {wider_clip}.",
        is_early=True,
    ),
    Rule(
        "gradient-spikes", "learning", "note",
        _gradients(
            lambda g: g.largest > SPIKE * g.median and 0 < g.clip < g.largest,
            "{name}: largest norm {g.largest:.3g}, median {g.median:.3g}",
        ),
        "{found}.",
        "Single updates are far out of line; clipping has caught them. Many of them come before a run that diverges.",
        "{lr[model]:0.5} if losses jump at the same time.",
        is_early=True,
    ),
    Rule(
        "gradients-vanished", "learning", "problem",
        _gradients(lambda g: g.median < VANISHED, "{name}: median norm {g.median:.1e}"), "{found}.",
        "Nothing moves any more: a loss is constant, weighted with zero, or cut off from what it should train.",
        "Search for zeros among the scales and learning rates in the run's config.toml; nothing else stops a gradient "
        "altogether.",
    ),
    Rule(
        "losses-rising", "learning", "warning", _losses("rising"),
        "{found} (last quarter of the rows against the one before).",
        "The model gets worse on its replay: it has not caught up with new experience, or its steps are too large.",
        "New experience passes; if it lasts, {lr[model]:0.5}.",
    ),
    Rule(
        "still-learning", "learning", "note", _losses("falling"),
        "{found} (last quarter of the rows against the one before).",
        "The model still gets better, so that what it lacks may come by itself.",
        "Train longer: {option[training.steps]:2}.",
    ),
)  # fmt: skip
"""In the order of a page."""
