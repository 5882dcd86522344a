"""Rules about the world model: latents, predictions, reward and discount heads. Each threshold has its reason."""

from reverie.analysis.doctor.examine import Report
from reverie.analysis.doctor.rules import Rule
from reverie.config import Config
from reverie.schedules import parse_schedule

COLLAPSED_KL = 0.5
"""Nats of KL, all variables together: less than one bit a step is next to nothing about an observation."""
LIKE_MEAN = 0.9
"""Reconstruction error as a share of the mean image's, above which the model has learnt little else than that image."""
BACKGROUND = 0.5
"""The same share, above which most of what distinguishes one image from another is missing."""
FAR_KL = 1.0
"""Nats of KL per variable: at log 32 = 3.5 nats for a variable that is a complete surprise, the prior misses a third."""
DETERMINISTIC = 0.02
"""Share of the largest entropy below which all variables are as good as fixed by the observation."""
MOST = 0.5
"""More than this share of variables or classes is most of them."""
FINE = 0.002
"""Mean squared error per pixel, in units of white: deviations of 4.5%, which eyes hardly see."""
NO_BETTER = 0.95
"""Share of a naive prediction's error above which the model is no better; 5% is within the noise of a sample."""
NEAR = 5
"""Horizons 1 to 5 count as near."""
FORESEEN = 0.3
"""Share of a reward's size that is predicted, on average, where it comes; less means that most such events are missed."""
EVENTS = 10
"""Fewest steps with rewards from which a rule concludes anything; of ends, which are rarer, half as many."""
MISSED_END = 0.5
"""Share of gamma: predicted discounts above it, at an end, say that going on is likelier."""
FALSE_ENDS = 0.01
"""Probability of an end, beyond the actual rate, that is predicted in every step: an imagined rollout of 15 steps then
loses a seventh of its weight."""


def changed(option: str, value: float, factor: float) -> str:
    """An option with a new value: the present one times a factor, to two digits."""
    return f"{option} {float(f'{value * factor:.2g}'):g}"


def _kl_scale(report: Report, factor: float) -> str:
    scale = parse_schedule(report.config.world_model.kl.scale)(report.agent_steps)
    return changed("--world-model.kl.scale", scale or 0.1, factor)


def reconstruction(report: Report) -> float | None:
    """Error of what the model has just seen, as a share of that of the data's mean."""
    return report.predictions[report.observation].share_of("mean", 0, 0) if report.observation else None


def _observed_scale(config: Config, image: bool, factor: float) -> str:
    scales = config.world_model.scales
    return changed(
        f"--world-model.scales.{'image' if image else 'vector'}", scales.image if image else scales.vector, factor
    )


def _collapsed(r: Report) -> str | None:
    share = reconstruction(r)
    if r.latents.kl >= COLLAPSED_KL or (share is not None and share < LIKE_MEAN):
        return None
    seen = f"KL {r.latents.kl:.3f} nats over all {r.latents.variables} variables"
    return seen + (f"; reconstruction error {share:.0%} of the mean observation's." if share is not None else ".")


def _background(r: Report) -> str | None:
    share = reconstruction(r)
    collapsed = r.latents.kl < COLLAPSED_KL and share is not None and share >= LIKE_MEAN
    if share is None or share <= BACKGROUND or collapsed:
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
    if share is None or share >= DETERMINISTIC:
        return None
    return f"Posterior entropy {r.latents.posterior_entropy:.2f} nats, {share:.1%} of the most possible."


def _unused_variables(r: Report) -> str | None:
    unused, total = r.latents.unused_variables, r.latents.variables
    return f"{unused} of {total} variables have no KL to speak of." if MOST * total < unused else None


def _unused_classes(r: Report) -> str | None:
    unused, classes = r.latents.unused_classes, r.latents.classes
    if unused is None or classes is None or unused <= MOST * r.latents.variables * classes:
        return None
    return f"{unused} of {r.latents.variables * classes} classes have next to no probability in any state."


def _repeats(r: Report) -> str | None:
    if r.observation not in r.images:
        return None
    found = r.predictions[r.observation]
    error, share = found.model[0], found.share_of("repeat", 1, NEAR)
    if error is None or error >= FINE or share is None or share < NO_BETTER:
        return None
    return (
        f"Images it has seen are right to {error:.5f} per pixel, yet 1 to {NEAR} steps ahead its error is {share:.0%} of "
        "that of repeating the last image."
    )


def _short(r: Report) -> str | None:
    if not r.observation:
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


def _no_rewards(r: Report) -> str | None:
    found = sum(there.count for name, there in r.rewards.groups.items() if name != "zero")
    return f"{found} of {r.steps_seen:,} steps have a reward." if found < EVENTS else None


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
        "posterior-collapse", "latents", "problem", _collapsed,
        "The latent state says nothing about what is seen: the model imagines an average world, and the actor learns in it.",
        lambda r: f"Make the KL cheaper, {_kl_scale(r, 0.3)}, or observations dearer, "
        f"{_observed_scale(r.config, r.observation in r.images, 3)}; with a small image scale a KL near 0 is the optimum.",
        early=False,
    ),
    Rule(
        "background-only", "prediction", "warning", _background,
        "The decoder shows the average observation; much of what tells states apart (what moves) does not reach the latents.",
        lambda r: f"Train longer first. If the loss has stopped falling: {_kl_scale(r, 0.3)}, or in a new run a wider "
        f"{changed('--world-model.decoder.cnn-depth', r.config.world_model.decoder.cnn_depth, 2)}.",
        early=False,
    ),
    Rule(
        "prior-far", "latents", "warning", _far,
        "The prior is surprised by most of what happens, so that imagination, which follows the prior, leaves the truth soon.",
        lambda r: f"Train the prior harder: --world-model.kl.balance 0.9, or {_kl_scale(r, 3)}; train longer.",
        early=False,
    ),
    Rule(
        "kl-rising", "latents", "warning", _rising,
        "The posterior takes in ever more that the prior cannot follow, and reconstruction gains nothing by it.",
        lambda r: f"{_kl_scale(r, 3)}, or a slower --world-model.optimizer.lr "
        f"{float(parse_schedule(r.config.world_model.optimizer.lr)(r.agent_steps)) / 2:g}.",
        early=False,
    ),
    Rule(
        "deterministic-latents", "latents", "warning", _deterministic,
        "Samples never vary: imagination then shows one future for each action, and the KL is that of a code.",
        lambda r: f"Let entropy pay: {_kl_scale(r, 3)}.",
        early=False,
    ),
    Rule(
        "unused-variables", "latents", "note", _unused_variables,
        "These variables are known from the deterministic state, or carry nothing. Harmless where predictions are good.",
        lambda r: f"If reconstruction is poor, {_kl_scale(r, 0.3)}; otherwise a smaller "
        f"{changed('--world-model.rssm.variables', r.config.world_model.rssm.variables, 0.5)} (a new run) would do.",
        early=False,
    ),
    Rule(
        "unused-classes", "latents", "note", _unused_classes,
        "Most of the code is never spoken; the latents are wider than this environment needs, or not yet learnt.",
        lambda r: f"Nothing, or in a new run "
        f"{changed('--world-model.rssm.classes', r.config.world_model.rssm.classes, 0.5)}.",
        early=False,
    ),
    Rule(
        "repeats-the-image", "prediction", "warning", _repeats,
        "The picture as a whole is learnt, but what changes from step to step, often something small, is not predicted.",
        lambda r: f"{_kl_scale(r, 0.3)} lets small things into the latents; "
        f"{_observed_scale(r.config, True, 3)} makes them count for more; longer training helps most.",
        early=False,
    ),
    Rule(
        "short-sighted", "prediction", "note", _short,
        "Beyond that horizon the actor learns from imagined states that say less than the last or the mean observation.",
        lambda r: f"Train longer; or let the actor plan less far, "
        f"{changed('--behavior.horizon', r.config.behavior.horizon, 2 / 3)}; or longer sequences, "
        f"{changed('--replay.batch-length', r.config.replay.batch_length, 2)}.",
        early=False,
    ),
    Rule(
        "rewards-missed", "reward", "warning", _missed_rewards,
        "The actor learns from predicted rewards only: what the head does not predict, the actor cannot seek or avoid.",
        lambda r: f"Weigh rewards more: {changed('--world-model.scales.reward', r.config.world_model.scales.reward or 1, 10)}; "
        "rare rewards also need more of them in the replay and more updates"
        + ("" if r.config.world_model.gradients.reward else "; let them form the latents: --world-model.gradients.reward true")
        + ".",
        early=False,
    ),
    Rule(
        "no-rewards", "reward", "warning", _no_rewards,
        "There is next to no reward in the data, so that nothing can be learnt about where it comes from.",
        lambda r: "More random play before learning, "
        f"{changed('--training.prefill', max(r.config.training.prefill, 1), 4)} (a new run), or more exploration, "
        f"--behavior.actor.entropy {float(parse_schedule(r.config.behavior.actor.entropy)(r.agent_steps) or 1e-3) * 3:g}.",
    ),
    Rule(
        "ends-missed", "discount", "warning", _missed_ends,
        "Imagined episodes go on where real ones end, and values there promise what never comes.",
        lambda r: f"{changed('--world-model.scales.discount', r.config.world_model.scales.discount or 1, 4)}. In Atari the "
        "last image of an episode often looks like the one before: some ends cannot be seen.",
        early=False,
    ),
    Rule(
        "false-ends", "discount", "warning", _false_ends,
        "Imagined futures are discounted more than gamma says: values are too small and the actor short-sighted.",
        lambda r: f"{changed('--world-model.scales.discount', r.config.world_model.scales.discount or 1, 2)}, or more updates.",
        early=False,
    ),
)  # fmt: skip
"""In the order of a page."""
