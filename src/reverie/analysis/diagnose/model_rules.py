"""Rules about the world model: latents, predictions, reward and discount heads. Each threshold has its reason."""

from reverie.analysis.diagnose.prediction import MARGIN
from reverie.analysis.diagnose.suggestions import (
    entropy,
    freer_posterior,
    harder_prior,
    kl_scale,
    observation_scale,
    random_play,
    rate,
    times,
    wider_decoder,
)
from reverie.analysis.diagnose.report import Report
from reverie.analysis.diagnose.rules import ENOUGH_UPDATES, Rule

COLLAPSED_KL = 0.5
"""Nats of KL, all variables together: less than one bit a step is next to nothing about an observation."""
LIKE_MEAN = 0.9
"""Reconstruction error as a share of the mean image's, above which the model has learnt little else than that image."""
BACKGROUND = 0.5
"""The same share, above which most of what distinguishes one image from another is missing."""
FAR_KL = 1.0
"""Nats of KL per variable: of the log 32 = 3.5 nats of a complete surprise, the prior then misses a third."""
DETERMINISTIC = 0.02
"""Share of the largest entropy below which all variables are as good as fixed by the observation."""
MOST = 0.5
"""More than this share of variables or classes is most of them."""
FINE = 0.002
"""Mean squared error per pixel, in units of white: deviations of 4.5%, which eyes hardly see."""
NEAR = 5
"""Horizons 1 to 5 count as near."""
FORESEEN = 0.3
"""Share of a reward's size that is predicted, on average, where it comes; below it, most such events are missed."""
EVENTS = 10
"""Fewest steps with rewards from which a rule concludes anything; of ends, which are rarer, half as many."""
MISSED_END = 0.5
"""Share of gamma: predicted discounts above it, at an end, say that going on is likelier."""
FALSE_ENDS = 0.01
"""Probability of an end, beyond the actual rate, that is predicted in every step: an imagined rollout of 15 steps then
loses a seventh of its weight."""

OVERFITTED = 0.6
"""Share of what the model knows of its own replay that it still knows of another one, below which most of it was
learned by heart. The other run's policy differs, too, so that some loss is no sign of that."""
KNOWN = 0.2
"""Share of the rewards' variance that must be explained in its own replay before there is something to lose."""

COMPARABLE = 50
"""Fewest steps with rewards on both sides of that comparison: two samples of one replay with 13 of them differ as much
as that in 14 % of cases, with 44 in 2 % (docs/diagnose.md)."""
LOST = 0.1
"""Reconstruction error elsewhere, as a share of the mean observation's, below which the model sees well there, too."""

HEAVY = 10.0
"""Scale of rewards from which a larger one is no longer advised: rewards then outweigh what a small object costs."""
FORM_LATENTS = "--world-model.head-gradients.reward true"
MODEL_FIRST = "let the world model learn from random play before behavior does, --training.pretrain-world-model 9000"
"""As in the preset atari-laptop (docs/results.md, Boxing)."""


def reconstruction(report: Report) -> float | None:
    """Error of what the model has just seen, as a share of that of the data's mean."""
    return report.predictions[report.observation].share_of("mean", 0, 0) if report.observation else None


def _few(r: Report) -> str | None:
    return f"{r.updates:,} updates after {r.agent_steps:,} agent steps." if r.updates < ENOUGH_UPDATES else None


def is_collapsed(r: Report) -> bool:
    """Whether the posterior has collapsed; what follows from that is not found once more."""
    share = reconstruction(r)
    return r.latents.kl < COLLAPSED_KL and (share is None or share >= LIKE_MEAN)


def _collapsed(r: Report) -> str | None:
    share = reconstruction(r)
    if not is_collapsed(r):
        return None
    seen = f"KL {r.latents.kl:.3f} nats over all {r.latents.variables} variables"
    return seen + (f"; reconstruction error {share:.0%} of the mean observation's." if share is not None else ".")


def _background(r: Report) -> str | None:
    share = reconstruction(r)
    if share is None or share <= BACKGROUND or is_collapsed(r):
        return None
    return f"Reconstructing what it has just seen, the model makes {share:.0%} of the error of the mean observation."


def _far(r: Report) -> str | None:
    each = r.latents.kl / r.latents.variables
    return f"KL {r.latents.kl:.1f} nats, {each:.2f} per variable." if each > FAR_KL else None


def _rising(r: Report) -> str | None:
    kl, loss = r.learning.trends.get("model/kl"), r.learning.trends.get(f"model/{r.observation}_loss")
    if kl is None or kl.direction != "rising" or (loss is not None and loss.direction == "falling"):
        return None
    return f"KL rises from {kl.before:.2f} to {kl.latest:.2f} nats, and the observation loss does not fall with it."


def _deterministic(r: Report) -> str | None:
    share = r.latents.posterior_entropy_share
    if share is None or share >= DETERMINISTIC or is_collapsed(r):
        return None
    return f"Posterior entropy {r.latents.posterior_entropy:.2f} nats, {share:.1%} of the most possible."


def _unused_variables(r: Report) -> str | None:
    unused, total = r.latents.unused_variables, r.latents.variables
    few = unused <= MOST * total or is_collapsed(r)
    return None if few else f"{unused} of {total} variables have no KL to speak of."


def _unused_classes(r: Report) -> str | None:
    unused, classes = r.latents.unused_classes, r.latents.classes
    if unused is None or classes is None or unused <= MOST * r.latents.variables * classes or is_collapsed(r):
        return None
    return f"{unused} of {r.latents.variables * classes} classes have next to no probability in any state."


def _repeats(r: Report) -> str | None:
    if r.observation not in r.images:
        return None
    found = r.predictions[r.observation]
    error, share = found.model[0], found.share_of("repeat", 1, NEAR)
    if error is None or error >= FINE or share is None or share < MARGIN:
        return None
    return (
        f"Images it has seen are right to {error:.5f} per pixel, yet 1 to {NEAR} steps ahead its error is {share:.0%} "
        "of that of repeating the last image."
    )


def _worse(r: Report) -> str | None:
    if not r.observation or _repeats(r) or _short(r) or _background(r) or is_collapsed(r):
        return None
    share = r.predictions[r.observation].share_of("repeat", 1, NEAR)
    if share is None or share <= 1:
        return None
    return f"1 to {NEAR} steps ahead its error is {share:.0%} of that of repeating the last observation."


def _short(r: Report) -> str | None:
    if not r.observation or is_collapsed(r):
        return None
    span, needed = r.predictions[r.observation].useful(), r.config.behavior.horizon
    reach = len(r.predictions[r.observation].model) - 1
    if span is None:
        return (
            f"At no horizon up to {reach} is the model better than repeating the last observation or showing the mean."
        )
    if span[1] >= min(needed, reach):
        return None
    return f"Better than naive predictions from {span[0]} to {span[1]} steps ahead only; the actor plans {needed}."


def _missed_rewards(r: Report) -> str | None:
    missed = []
    for group in ("positive", "negative"):
        foreseen, there = r.rewards.foreseen(group), r.rewards.groups.get(group)
        if there and foreseen is not None and there.count >= EVENTS and foreseen < FORESEEN:
            missed.append(
                f"where a {group} reward comes ({there.count} steps, mean {there.actual:+.2f}), {there.predicted:+.3f} "
                "is predicted"
            )
    zero = r.rewards.groups.get("zero")
    return f"{_upper(', and '.join(missed))}; {zero.predicted:+.3f} where none comes." if missed and zero else None


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _events(r: Report) -> int:
    """Steps with a reward."""
    return sum(there.count for name, there in r.rewards.groups.items() if name != "zero")


def _no_rewards(r: Report) -> str | None:
    found = _events(r)
    return f"{found} of {r.steps_seen:,} steps have a reward." if found < EVENTS else None


def _rewards_overfitting(r: Report) -> str | None:
    if r.holdout is None or min(_events(r), _events(r.holdout)) < COMPARABLE:
        return None
    own, other = r.rewards.explained, r.holdout.rewards.explained
    if own is None or other is None or own < KNOWN or other >= OVERFITTED * own:
        return None
    elsewhere = f"{max(other, 0):.0%} in that of {r.holdout.run}"
    return f"{own:.0%} of the rewards' variance is explained in its own replay, and {elsewhere}."


def _observations_overfitting(r: Report) -> str | None:
    if r.holdout is None or is_collapsed(r):
        return None
    own, other = reconstruction(r), reconstruction(r.holdout)
    if own is None or other is None or other < LOST or own >= OVERFITTED * other:
        return None
    return (
        f"Reconstructing what it sees, it makes {own:.0%} of the error of the mean observation in its own replay, and "
        f"{other:.0%} in that of {r.holdout.run}."
    )


def _against_overfitting(r: Report, other: str) -> str:
    more = times(r, "training.train_every", 2)
    return f"More experience for each update, {more}; or {other}. Part of it may be the other policy of the other run."


def _missed_ends(r: Report) -> str | None:
    d = r.discounts
    if d is None or d.on_terminal is None or d.terminals < EVENTS / 2 or d.on_terminal <= MISSED_END * d.gamma:
        return None
    return f"In {d.terminals} states that end an episode, the mean predicted discount is {d.on_terminal:.2f}, not 0."


def _false_ends(r: Report) -> str | None:
    d = r.discounts
    if d is None or d.predicted_end_rate - d.end_rate <= FALSE_ENDS:
        return None
    return f"Ends are predicted with probability {d.predicted_end_rate:.1%} a step; {d.end_rate:.1%} of steps are ends."


MODEL_RULES: tuple[Rule, ...] = (
    Rule(
        "too-early", "learning", "note", _few,
        "Too little was learnt yet to say much: all else here describes a beginner, and most of it passes.",
        lambda r: f"Ask again after some {ENOUGH_UPDATES:,} updates.",
    ),
    Rule(
        "posterior-collapse", "latents", "problem", _collapsed,
        "The latent state says nothing about what is seen: the actor learns in an average world.",
        lambda r: f"Make the KL cheaper, {kl_scale(r, 0.3)}, or observations dearer, {observation_scale(r, 3)}; with a "
        "small scale of the observations a KL near 0 is the optimum.",
        early=False,
    ),
    Rule(
        "kl-high", "latents", "warning", _far,
        "The prior is surprised by most of what happens: imagination, which follows the prior, soon leaves the truth.",
        lambda r: f"Train longer; or train the prior harder, {harder_prior(r)}.",
        early=False,
    ),
    Rule(
        "kl-rising", "latents", "warning", _rising,
        "The posterior takes in ever more that the prior cannot follow, and reconstruction gains nothing by it.",
        lambda r: f"{kl_scale(r, 3)}, or smaller steps, {rate(r, 'model', 0.5)}.",
        early=False,
    ),
    Rule(
        "deterministic-latents", "latents", "warning", _deterministic,
        "Samples never vary: imagination then shows one future for each action, however uncertain the world is.",
        lambda r: f"Let entropy pay: {freer_posterior(r)}.",
        early=False,
    ),
    Rule(
        "unused-variables", "latents", "note", _unused_variables,
        "These variables follow from the deterministic state, or carry nothing. Harmless where predictions are good.",
        lambda r: f"If reconstruction is poor, {kl_scale(r, 0.3)}; otherwise fewer would do, in a new run: "
        f"{times(r, 'world_model.rssm.stoch', 0.5)}.",
        early=False,
    ),
    Rule(
        "unused-classes", "latents", "note", _unused_classes,
        "Most of the code is never spoken: the latents are wider than what the replay shows needs. It costs time only.",
        lambda r: f"Nothing; or in a new run {times(r, 'world_model.rssm.classes', 0.5)}.",
        early=False,
    ),
    Rule(
        "background-only", "prediction", "warning", _background,
        "The decoder shows little but the average observation; much of what moves does not reach the latents.",
        lambda r: f"Train longer. If the loss has stopped falling: {kl_scale(r, 0.3)}, or in a new run a wider "
        f"decoder, {wider_decoder(r)}.",
        early=False,
    ),
    Rule(
        "repeats-the-image", "prediction", "warning", _repeats,
        "The picture as a whole is learnt; what changes from step to step, often something small, is not predicted.",
        lambda r: f"Longer training helps most; {kl_scale(r, 0.3)} lets small things into the latents, and "
        f"{observation_scale(r, 3)} makes them count for more.",
        early=False,
    ),
    Rule(
        "worse-than-repeating", "prediction", "warning", _worse,
        "Over the steps that the actor plans first, the model is further from the truth than if nothing changed.",
        lambda r: f"Train longer; {kl_scale(r, 0.3)} lets more of an observation into the latents, and "
        f"{observation_scale(r, 3)} makes it count for more.",
        early=False,
    ),
    Rule(
        "horizon-short", "prediction", "note", _short,
        "Beyond that the actor learns from imagined states that say less than the last or the mean observation.",
        lambda r: f"Train longer; or let the actor plan less far, {times(r, 'behavior.horizon', 2 / 3)}; or learn from "
        f"longer sequences, {times(r, 'replay.batch_length', 2)}.",
        early=False,
    ),
    Rule(
        "observations-overfitting", "prediction", "warning", _observations_overfitting,
        "The model knows the scenes of its own replay and is lost in others, into which a better policy would lead.",
        lambda r: _against_overfitting(r, f"more exploration, {entropy(r, 3)}"),
        early=False,
    ),
    Rule(
        "reward-recall-low", "reward", "warning", _missed_rewards,
        "The actor learns from predicted rewards only: what the head does not predict, it cannot seek or avoid.",
        lambda r: (
            f"Rewards weigh {r.config.world_model.loss_scales.reward:g} already: train longer"
            if r.config.world_model.loss_scales.reward >= HEAVY
            else f"Weigh rewards more, {times(r, 'world_model.loss_scales.reward', 10)}"
        )
        + ("" if r.config.world_model.head_gradients.reward else f", and let them form the latents, {FORM_LATENTS}")
        + ("" if r.config.training.pretrain_world_model else f"; or in a new run {MODEL_FIRST}")
        + ". If what gives rewards is not reconstructed either, see the section on prediction first.",
        early=False,
    ),
    Rule(
        "rewards-overfitting", "reward", "warning", _rewards_overfitting,
        "The model remembers where rewards were, and does not see where new ones come; imagination needs the latter.",
        lambda r: _against_overfitting(r, f"less weight on rewards, {times(r, 'world_model.loss_scales.reward', 0.5)}"),
        early=False,
    ),
    Rule(
        "no-rewards", "reward", "warning", _no_rewards,
        "There is next to no reward in the data, so that nothing can be learnt about where it comes from.",
        lambda r: f"More random play before learning, {random_play(r)} (a new run), or more "
        f"exploration, {entropy(r, 3)}.",
    ),
    Rule(
        "ends-missed", "discount", "warning", _missed_ends,
        "Imagined episodes go on where real ones end, and values there promise what never comes.",
        lambda r: f"{times(r, 'world_model.loss_scales.discount', 4)}. In Atari the last image of an episode often "
        "looks like the one before: some ends cannot be seen, and where only a clock ends a game it matters little.",
        early=False,
    ),
    Rule(
        "false-ends", "discount", "warning", _false_ends,
        "Imagined futures are discounted more than gamma says: values are too small and the actor short-sighted.",
        lambda r: f"Train longer, or {times(r, 'world_model.loss_scales.discount', 2)}.",
        early=False,
    ),
)  # fmt: skip
"""In the order of a page."""
