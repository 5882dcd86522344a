"""Rules about the world model: latents, predictions, reward and discount heads. Each threshold has its reason."""

from reverie.analysis.diagnose.learning import Trend
from reverie.analysis.diagnose.prediction import MARGIN
from reverie.analysis.diagnose.report import Report
from reverie.analysis.diagnose.rules import ENOUGH_UPDATES, Rule, number

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


def is_collapsed(r: Report) -> bool:
    """Return whether the posterior has collapsed; rules about its consequences are silent then."""
    return r.latents.kl < COLLAPSED_KL and not number(r.reconstruction) < LIKE_MEAN


def _collapsed(r: Report) -> str:
    if not is_collapsed(r):
        return ""
    share = r.reconstruction
    return "." if share is None else f"; reconstruction error {share:.0%} of the mean observation's."


def _rising(r: Report) -> Trend | None:
    kl, loss = r.learning.trends.get("model/kl"), r.learning.trends.get(f"model/{r.observation}_loss")
    is_rising = kl is not None and kl.direction == "rising" and not (loss and loss.direction == "falling")
    return kl if is_rising else None


def _background(r: Report) -> bool:
    return number(r.reconstruction) > BACKGROUND and not is_collapsed(r)


def _near(r: Report) -> float | None:
    """Return the error over near horizons as a share of that of repeating the last observation."""
    return r.predictions[r.observation].share_of("repeat", 1, NEAR) if r.observation else None


def _repeats(r: Report) -> tuple[float, float] | None:
    error, share = (r.predictions[r.observation].model[0], _near(r)) if r.observation in r.images else (None, None)
    return (error, share) if error is not None and share is not None and error < FINE and share >= MARGIN else None


def _worse(r: Report) -> float | None:
    is_explained = _repeats(r) or _short(r) or _background(r) or is_collapsed(r)
    return _near(r) if number(_near(r)) > 1 and not is_explained else None


def _short(r: Report) -> str:
    if not r.observation or is_collapsed(r):
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
    missed = [
        f"where a {group} reward comes ({there.count} steps, mean {there.actual:+.2f}), {there.predicted:+.3f} is "
        "predicted"
        for group in ("positive", "negative")
        if (there := r.rewards.groups.get(group))
        and there.count >= EVENTS
        and number(r.rewards.recall(group)) < LOW_RECALL
    ]
    zero = r.rewards.groups.get("zero")
    return f"W{', and '.join(missed)[1:]}; {zero.predicted:+.3f} where none comes." if missed and zero else ""


def _rewards_overfitted(r: Report) -> tuple[float, float] | None:
    if r.holdout is None or min(r.rewards.num_events, r.holdout.rewards.num_events) < COMPARABLE:
        return None
    own, other = r.rewards.explained, r.holdout.rewards.explained
    if own is None or other is None or own < KNOWN or other >= OVERFITTED * own:
        return None
    return own, max(other, 0.0)


def _observations_overfitted(r: Report) -> bool:
    own, other = (number(one.reconstruction) if one else number(None) for one in (r, r.holdout))
    return other >= LOST and own < OVERFITTED * other and not is_collapsed(r)


def _missed_ends(r: Report) -> bool:
    d = r.discounts
    return d is not None and d.terminals >= EVENTS / 2 and number(d.on_terminal) > MISSED_END * d.gamma


MODEL_RULES: tuple[Rule, ...] = (
    Rule(
        "too-early", "learning", "note", lambda r: r.updates < ENOUGH_UPDATES,
        "{r.updates:,} updates after {r.agent_steps:,} agent steps.",
        "Too little was learnt yet to say much: all else here describes a beginner, and most of it passes.",
        f"Ask again after some {ENOUGH_UPDATES:,} updates.",
    ),
    Rule(
        "posterior-collapse", "latents", "problem", _collapsed,
        "KL {r.latents.kl:.3f} nats over all {r.latents.variables} variables{found}",
        "The latent state says nothing about what is seen: the actor learns in an average world.",
        "Lower the KL weight, {kl_scale:0.3}, or raise that of observations, {observation_scale:3}; with a small scale "
        "of the observations a KL near 0 is the optimum.",
    ),
    Rule(
        "kl-high", "latents", "warning", lambda r: r.latents.kl_each > HIGH_KL,
        "KL {r.latents.kl:.1f} nats, {r.latents.kl_each:.2f} per variable.",
        "The prior is surprised by most of what happens: imagination, which follows the prior, soon leaves the truth.",
        "Train longer; or train the prior harder, {harder_prior}.",
    ),
    Rule(
        "kl-rising", "latents", "warning", _rising,
        "KL rises from {found.before:.2f} to {found.latest:.2f} nats, and the observation loss does not fall with it.",
        "The posterior takes in ever more that the prior cannot follow, and reconstruction gains nothing by it.",
        "{kl_scale:3}, or smaller steps, {lr[model]:0.5}.",
    ),
    Rule(
        "deterministic-latents", "latents", "warning",
        lambda r: number(r.latents.posterior_entropy_share) < DETERMINISTIC and not is_collapsed(r),
        "Posterior entropy {r.latents.posterior_entropy:.2f} nats, {r.latents.posterior_entropy_share:.1%} of the most "
        "possible.",
        "Samples never vary: imagination then shows one future for each action, however uncertain the world is.",
        "Let entropy pay: {freer_posterior}.",
    ),
    Rule(
        "unused-variables", "latents", "note",
        lambda r: r.latents.unused_variables > MOST * r.latents.variables and not is_collapsed(r),
        "{r.latents.unused_variables} of {r.latents.variables} variables have next to no KL.",
        "These variables follow from the deterministic state, or carry nothing. Harmless where predictions are good.",
        "If reconstruction is poor, {kl_scale:0.3}; otherwise fewer would do, in a new run: "
        "{option[world_model.rssm.stoch]:0.5}.",
    ),
    Rule(
        "unused-classes", "latents", "note",
        lambda r: number(r.latents.unused_classes) > MOST * r.latents.num_classes and not is_collapsed(r),
        "{r.latents.unused_classes} of {r.latents.num_classes} classes have next to no probability in any state.",
        "Most of the code is never used: the latents are wider than what the replay shows needs. It costs time only.",
        "Nothing; or in a new run {option[world_model.rssm.classes]:0.5}.",
    ),
    Rule(
        "background-only", "prediction", "warning", _background,
        "Reconstructing what it has just seen, the model makes {r.reconstruction:.0%} of the error of the mean "
        "observation.",
        "The decoder shows little but the average observation; much of what moves does not reach the latents.",
        "Train longer. If the loss has stopped falling: {kl_scale:0.3}, or in a new run a wider decoder, "
        "{wider_decoder}.",
    ),
    Rule(
        "repeats-the-image", "prediction", "warning", _repeats,
        f"Images it has seen are right to {{found[0]:.5f}} per pixel, yet 1 to {NEAR} steps ahead its error is "
        "{found[1]:.0%} of that of repeating the last image.",
        "The picture as a whole is learnt; what changes from step to step, often something small, is not predicted.",
        "Longer training helps most; {kl_scale:0.3} lets small things into the latents, and {observation_scale:3} "
        "makes them count for more.",
    ),
    Rule(
        "worse-than-repeating", "prediction", "warning", _worse,
        f"1 to {NEAR} steps ahead its error is {{found:.0%}} of that of repeating the last observation.",
        "Over the steps that the actor plans first, the model is further from the truth than if nothing changed.",
        "Train longer; {kl_scale:0.3} lets more of an observation into the latents, and {observation_scale:3} makes it "
        "count for more.",
    ),
    Rule(
        "horizon-short", "prediction", "note", _short, "{found}",
        "Beyond that the actor learns from imagined states that say less than the last or the mean observation.",
        "Train longer; or let the actor plan less far, {option[behavior.horizon]:2/3}; or learn from longer sequences, "
        "{option[replay.batch_length]:2}.",
    ),
    Rule(
        "observations-overfitting", "prediction", "warning", _observations_overfitted,
        "Reconstructing what it sees, it makes {r.reconstruction:.0%} of the error of the mean observation in its own "
        "replay, and {r.holdout.reconstruction:.0%} in that of {r.holdout.run}.",
        "The model knows the scenes of its own replay and is lost in others, into which a better policy would lead.",
        "More experience for each update, {option[training.train_every]:2}; or more exploration, {entropy:3}. Part of "
        "it may be the other policy of the other run.",
    ),
    Rule(
        "reward-recall-low", "reward", "warning", _missed_rewards, "{found}",
        "The actor learns from predicted rewards only: what the head does not predict, it cannot seek or avoid.",
        "{reward_loss}. If what gives rewards is not reconstructed either, see the section on prediction first.",
    ),
    Rule(
        "rewards-overfitting", "reward", "warning", _rewards_overfitted,
        "{found[0]:.0%} of the rewards' variance is explained in its own replay, and {found[1]:.0%} in that of "
        "{r.holdout.run}.",
        "The model remembers where rewards were, and does not see where new ones come; imagination needs the latter.",
        "More experience for each update, {option[training.train_every]:2}; or less weight on rewards, "
        "{option[world_model.loss_scales.reward]:0.5}. Part of it may be the other policy of the other run.",
    ),
    Rule(
        "no-rewards", "reward", "warning", lambda r: r.rewards.num_events < EVENTS,
        "{r.rewards.num_events} of {r.steps_seen:,} steps have a reward.",
        "There is next to no reward in the data, so that nothing can be learnt about where it comes from.",
        "More random play before learning, {random_play} (a new run), or more exploration, {entropy:3}.",
        is_early=True,
    ),
    Rule(
        "ends-missed", "discount", "warning", _missed_ends,
        "In {r.discounts.terminals} states that end an episode, the mean predicted discount is "
        "{r.discounts.on_terminal:.2f}, not 0.",
        "Imagined episodes continue where real ones end, and values there include rewards that never come.",
        "{option[world_model.loss_scales.discount]:4}. In Atari the last image of an episode often looks like the one "
        "before: some ends cannot be seen, and where only a clock ends a game it matters little.",
    ),
    Rule(
        "false-ends", "discount", "warning",
        lambda r: r.discounts and r.discounts.predicted_end_rate - r.discounts.end_rate > FALSE_ENDS,
        "Ends are predicted with probability {r.discounts.predicted_end_rate:.1%} a step; {r.discounts.end_rate:.1%} "
        "of steps are ends.",
        "Imagined futures are discounted more than gamma says: values are too small and the actor short-sighted.",
        "Train longer, or {option[world_model.loss_scales.discount]:2}.",
    ),
)  # fmt: skip
"""In the order of a page."""
