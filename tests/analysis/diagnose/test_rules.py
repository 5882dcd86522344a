"""Every rule fires on numbers that were made for it, and no other does; none fires in good health."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from reverie.analysis.diagnose import RULES, Report, find
from reverie.analysis.diagnose.learning import Trend, measure_learning, measure_speed
from reverie.analysis.diagnose.rules import ENOUGH_UPDATES, suggestions
from reverie.analysis.diagnose.statistics import Bin
from reverie.analysis.format import Measures
from reverie.cli.main import COMMANDS
from reverie.cli.parser import SettingsCommand, parse
from reverie.config import PRESETS, Config, preset
from tests.helpers.diagnosed_reports import changed, healthy, ill, predicted

FLAT = Trend(1.0, 0.0, "flat")
RISING, FALLING = Trend(2.0, 1.0, "rising"), Trend(1.0, -1.0, "falling")
PROBLEMS = [rule for rule in RULES if rule.severity != "ok"]


def images(model: float, seen: float = 0.0005, repeat: float = 0.004, mean: float = 0.005) -> Report:
    found = predicted([seen] + [model] * 30, [0.0] + [repeat] * 30, [mean] * 31)
    return ill("", prediction={**healthy().prediction, "image": found})


def by_horizon(*errors: tuple[float, int], seen: float = 0.0005) -> Report:
    """Errors of images, each over that many steps ahead."""
    model = [seen, *(error for error, steps in errors for _ in range(steps))]
    found = predicted(model, [0.0] + [0.004] * 30, [0.005] * 31)
    return ill("", prediction={**healthy().prediction, "image": found})


def rewards(**groups: Bin) -> Report:
    return ill("reward", groups={**healthy().reward.groups, **groups})


def trends(**directions: Trend) -> Report:
    return ill("learning", trends={**healthy().learning.trends, **{f"model/{k}": v for k, v in directions.items()}})


def gradients(**changes: Any) -> Report:
    norms = healthy().learning.gradients
    return ill("learning", gradients={**norms, "model": changed(norms["model"], **changes)})


def imagined(**changes: float) -> Report:
    return ill("", value={**healthy().value, "imagined": changed(healthy().value["imagined"], **changes)})


def imagined_reward(best: float, latest: float) -> Report:
    return ill("learning", imagined_reward=Measures(best=best, latest=latest))


def replayed(**changes: float) -> Report:
    return ill("", value={**healthy().value, "replayed": changed(healthy().value["imagined"], **changes)})


def holdout(part: str, **changes: Any) -> Report:
    """A healthy report whose model was also looked at in the replay of another run."""
    return ill("", holdout=ill(part, ill("", run="runs/other"), **changes))


def continuous(certain: float) -> Report:
    return ill("actor", kind="continuous", entropy=0.4, max_entropy=0.6931, certain=certain, entropy_share=0.01)


NO_KL = {"kl": 0.1, "kl_per_variable": [0.04, 0.03, 0.02, 0.01]}
CASES: dict[str, tuple[Report, Report]] = {
    # name: where it fires, and where it just does not
    "too-early": (ill("", updates=ENOUGH_UPDATES - 1), ill("", updates=ENOUGH_UPDATES)),
    "posterior-collapse": (ill("latents", images(0.003, seen=0.0049), **NO_KL), ill("latents", **NO_KL)),
    "kl-high": (ill("latents", kl=4.1), ill("latents", kl=4.0)),
    "kl-rising": (trends(kl=RISING), trends(kl=FALLING)),
    "deterministic-latents": (
        ill("latents", posterior_entropy_share=0.01),
        ill("latents", posterior_entropy_share=math.nan),
    ),
    "unused-variables": (ill("latents", unused_variables=3), ill("latents", unused_variables=2)),
    "unused-classes": (ill("latents", unused_classes=7), ill("latents", unused_classes=math.nan)),
    "background-only": (images(0.003, seen=0.003), images(0.003, seen=0.002)),
    "repeats-the-image": (by_horizon((0.0039, 5), (0.001, 25)), by_horizon((0.0037, 5), (0.001, 25))),
    "worse-than-repeating": (
        by_horizon((0.0119, 11), (0.001, 19), seen=0.0021),
        by_horizon((0.0039, 5), (0.001, 25), seen=0.0021),
    ),
    "horizon-short": (by_horizon((0.001, 6), (0.009, 24)), by_horizon((0.001, 15), (0.009, 15))),
    "reward-recall-low": (rewards(positive=Bin(0.1, 0.76, 30)), rewards(positive=Bin(0.1, 0.76, 9))),
    "imagined-rewards-lost": (imagined_reward(0.005, 0.0003), imagined_reward(0.005, 0.0006)),
    "no-rewards": (ill("reward", events=9, groups={"zero": Bin(0.0, 0.0, 6391)}), ill("reward", events=10)),
    "ends-missed": (ill("discount", on_terminal=0.6), ill("discount", on_terminal=0.6, terminals=4)),
    "false-ends": (ill("discount", predicted_end_rate=0.02), ill("discount", predicted_end_rate=0.01)),
    "critic-lagging": (imagined(bias=-0.5), imagined(bias=-0.5, bias_error=0.2)),
    "critic-uncorrelated": (imagined(correlation=0.2), imagined(correlation=0.2, spread=1e-4)),
    "values-too-high": (replayed(bias=0.9), replayed(bias=0.7)),
    "values-too-low": (replayed(bias=-0.9), replayed(bias=-0.7)),
    "actor-uniform": (ill("actor", entropy_share=0.97), ill("actor", entropy_share=0.94)),
    "actor-one-action": (
        ill("actor", certain=0.99, dependence=0.001, entropy_share=0.01),
        ill("actor", certain=0.99, dependence=0.6),
    ),
    "actor-entropy-low": (ill("actor", entropy_share=0.04), ill("actor", entropy_share=0.06)),
    "rewards-overfitting": (holdout("reward", explained=0.45), holdout("reward", explained=0.5)),
    "observations-overfitting": (
        holdout("", prediction=images(0.001, seen=0.00085).prediction),
        holdout("", prediction=images(0.001, seen=0.0008).prediction),
    ),
    "actor-saturated": (continuous(0.77), continuous(0.5)),
    "not-finite": (ill("learning", not_finite=1), healthy()),
    "updates-skipped": (ill("learning", skipped=1), healthy()),
    "gradients-clipped": (gradients(clipped=0.6), gradients(clipped=0.4)),
    "gradient-spikes": (gradients(median=1.0, largest=150.0), gradients(median=2.0, largest=150.0)),
    "gradients-vanished": (gradients(median=1e-8), gradients(median=1e-4, largest=1e-3)),
    "losses-rising": (trends(image_loss=RISING), trends(image_loss=FLAT)),
    "collection-slow": (ill("speed", collect_share=0.55), ill("speed", collect_share=0.5)),
    "still-learning": (trends(reward_loss=FALLING), trends(reward_loss=FLAT)),
}
ALLOWED = {"kl-rising": {"still-learning"}}
"""What else may be found where a rule just does not fire."""


SUGGESTIONS = (
    "{kl_scale:0.3}", "{kl_scale:3}", "{harder_prior}", "{posterior_scale:3}", "{random_play}",
    "{wider_clip}", "{reward_loss}",
    "{observation_scale:3}", "{wider_decoder}", "{option[behavior.horizon]:0.67}",
    "{option[behavior.actor.entropy]:10}",
)  # fmt: skip


def advice(text: str, report: Report) -> str:
    return text.format_map(suggestions(report))


def names(report: Report) -> set[str]:
    return {finding.rule for finding in find(report) if finding.severity != "ok"}


def test_every_rule_has_a_case() -> None:
    assert {rule.name for rule in PROBLEMS} == set(CASES)
    assert {rule.section for rule in PROBLEMS} == {rule.section for rule in RULES if rule.severity == "ok"}


def test_good_health() -> None:
    findings = find(healthy())
    assert [finding.severity for finding in findings] == ["ok"] * len(findings)
    sections = ["latents", "prediction", "reward", "discount", "value", "actor", "learning", "speed"]
    assert [finding.section for finding in findings] == sections
    assert all(finding.seen.endswith(".") for finding in findings)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_fires_alone(name: str) -> None:
    fires, silent = CASES[name]
    assert names(fires) == {name}
    assert names(silent) <= ALLOWED.get(name, set())


@pytest.mark.parametrize("name", CASES)
def test_advice_can_be_typed(name: str) -> None:
    """Every option exists, and its value is one that the setting takes."""
    report = CASES[name][0]
    finding = next(finding for finding in find(report) if finding.rule == name)
    assert finding.seen.endswith(".") and finding.means.endswith(".") and finding.advice.endswith(".")
    typed = re.findall(r"--([a-z.-]+)(?: ([\w.-]*\w))?", finding.advice)
    for path, value in typed:
        assert value, finding.advice
        report.config.override(**{path: value})


def typeable(advice: str, base: Config) -> int:
    """Give the options of an advice to `reverie train`, which takes them or raises; return their number.

    Options that are joined by "with" belong together, others are alternatives.
    """
    found = re.findall(r"--\S+ \S+(?: with --\S+ \S+)*", advice)
    for options in found:
        words = [word.strip(",.;") for word in options.split() if word != "with"]
        command = parse(COMMANDS, ["train", "CartPole-v1", *words])
        assert isinstance(command, SettingsCommand)
        base.override(**command.settings)
    return sum(options.count("--") for options in found)


@pytest.mark.parametrize("name", PRESETS)
def test_advice_in_every_preset_is_taken_by_the_command_line(name: str) -> None:
    base = PRESETS[name].config
    for rule in PROBLEMS:
        typeable(advice(rule.advice, ill("", CASES[rule.name][0], config=base)), base)


@pytest.mark.parametrize("name", PRESETS)
def test_suggestion_in_every_preset_is_taken_by_the_command_line(name: str) -> None:
    base = PRESETS[name].config
    for suggestion in SUGGESTIONS:
        text = advice(suggestion, ill("", CASES["gradients-clipped"][0], config=base))
        assert typeable(text, base) == text.count("--") > 0 or text.startswith("Rewards weigh")


def test_every_suggestion_is_tried() -> None:
    assert {re.findall(r"\w+", suggestion)[0] for suggestion in SUGGESTIONS} == set(suggestions(healthy()))


def test_wider_decoder_without_images_is_the_mlp() -> None:
    vectors = ill("", observation="state", images=[])
    assert advice("{wider_decoder}", vectors).startswith("--world-model.decoder.mlp.units")
    assert advice("{wider_decoder}", healthy()).startswith("--world-model.decoder.cnn-depth")


def test_option_of_a_schedule_in_frames_is_read_at_the_frames_so_far() -> None:
    """atari-laptop: 1.6e-3 falls to 3e-4 over a million frames; half of them are 125,000 steps of four."""
    report = ill("", config=preset("atari-laptop"), agent_steps=125_000)
    assert advice("{option[behavior.actor.entropy]:10}", report) == "--behavior.actor.entropy 0.0095"


def test_ratios_follow_from_the_run() -> None:
    report = ill("", CASES["posterior-collapse"][0], config=healthy().config.override(**{"world_model.kl.scale": 2.0}))
    finding = find(report)[0]
    assert finding.severity == "problem" and "--world-model.kl.scale 0.2" in finding.advice
    scheduled = report.config.override(**{"world_model.kl.scale": "linear(0,1,200000)"})
    assert "--world-model.kl.scale 0.05" in find(ill("", report, config=scheduled))[0].advice


def test_find_continuous_actor_without_finding_is_summed_up_in_a_sentence() -> None:
    summary = next(finding.seen for finding in find(continuous(0.12)) if finding.section == "actor")
    assert summary == "Entropy 0.40 nats, 0.69 for random actions; 12% of values at the ends of their range."


def test_find_predictions_worse_than_repeating_are_not_ok() -> None:
    """A vector whose prediction beats the naive ones from step 12 on, as far as the actor plans and further."""
    found = predicted([0.2] + [5.94] * 11 + [0.5] * 34, [0.0] + [2.0] * 45, [6.0] * 46)
    report = ill("", images=[], observation="state", prediction={"state": found})
    finding = next(finding for finding in find(report) if finding.section == "prediction")
    assert (finding.rule, finding.severity) == ("worse-than-repeating", "warning")
    assert finding.seen == "1 to 5 steps ahead its error is 297% of that of repeating the last observation."


def test_a_collapse_is_found_once() -> None:
    """What follows from it, and what would advise the opposite, is left out."""
    report = ill("latents", images(0.006, seen=0.0059), **NO_KL, unused_variables=4, unused_classes=11)
    assert names(ill("latents", report, posterior_entropy_share=0.0)) == {"posterior-collapse"}


def test_the_split_objective_has_weights_of_its_own() -> None:
    split = healthy().config.override(**{"world_model.kl.objective": "split"})
    wanted = {
        "posterior-collapse": "--world-model.kl.prior-scale 0.008 with --world-model.kl.posterior-entropy-scale 0.002.",
        "kl-high": "--world-model.kl.prior-scale 0.24.",
        "deterministic-latents": "--world-model.kl.posterior-entropy-scale 0.06.",
    }
    for name, option in wanted.items():
        advice = {one.rule: one.advice for one in find(ill("", CASES[name][0], config=split))}[name]
        assert option in advice and "kl.scale" not in advice and "kl.balance" not in advice


def test_a_run_without_rewards_has_no_finding_of_overfitting() -> None:
    assert names(holdout("reward", explained=math.nan, events=0)) == set()
    for events, found in ((49, set()), (50, {"rewards-overfitting"})):
        assert names(holdout("reward", explained=0.1, events=events)) == found
        own = ill("reward", events=events)
        assert names(ill("", own, holdout=ill("reward", explained=0.1))) == found


def test_what_was_never_known_was_not_learned_overfitting() -> None:
    for explained, found in ((0.15, set()), (0.25, {"rewards-overfitting"})):
        assert names(ill("", ill("reward", explained=explained), holdout=ill("reward", explained=0.0))) == found


def test_a_model_that_sees_well_everywhere_has_learned_nothing_overfitting() -> None:
    """Five times its own error, and yet 9% of the mean observation's."""
    own, other = (images(0.0001, seen=seen) for seen in (0.00009, 0.00045))
    assert names(ill("", own, holdout=other)) == set()
    collapsed = ill("latents", images(0.005, seen=0.0046), kl=0.1)
    assert names(ill("", collapsed, holdout=images(0.005, seen=0.02))) == names(collapsed)


def test_beginners_get_notes() -> None:
    for name, (report, _) in CASES.items():
        rule = next(rule for rule in PROBLEMS if rule.name == name)
        young = find(ill("", report, updates=10))
        found = next(finding for finding in young if finding.rule == name)
        assert found.severity == (rule.severity if rule.early else "note"), name


def test_the_worst_comes_first() -> None:
    report = ill("learning", ill("latents", unused_classes=7), not_finite=2)
    report = ill("actor", report, entropy_share=0.97)
    severities = [finding.severity for finding in find(report)]
    assert severities[:3] == ["problem", "warning", "note"] and set(severities[3:]) == {"ok"}


def test_a_run_of_vectors_without_discounts_and_metrics() -> None:
    """What is missing is left out, and breaks nothing."""
    config = healthy().config.override(**{"world_model.loss_scales.vector": 2.0})
    prediction = {"state": predicted([0.9] * 9, [0.0] + [2.0] * 8, [1.0] * 9)}
    report = ill("", images=[], observation="state", prediction=prediction, discount=None, config=config)
    report = ill("latents", report, kl=0.1)
    report.value = {"imagined": report.value["imagined"]}
    report.learning, report.speed = measure_learning([], config), measure_speed([])
    findings = find(report)
    assert findings[0].rule == "posterior-collapse" and "--world-model.loss-scales.vector 40" in findings[0].advice
    assert {finding.section for finding in findings}.isdisjoint({"discount", "learning", "speed"})


def test_values_that_follow_imagination_but_not_what_happened() -> None:
    finding = find(replayed(correlation=0.05))[0]
    assert (finding.rule, finding.seen) == ("critic-uncorrelated", "Values correlate 0.05 with replayed returns.")
    both = ill("", value={name: changed(found, correlation=0.05) for name, found in healthy().value.items()})
    assert find(both)[0].seen == (
        "Values correlate 0.05 with imagined returns; Values correlate 0.05 with replayed returns."
    )


def test_find_names_the_speed_and_the_command_that_measures_it() -> None:
    for share in (0.3, 0.8):
        seen = next(finding for finding in find(ill("speed", collect_share=share)) if finding.section == "speed")
        assert f"400 frames/s, 6.25 updates/s; {share:.0%} of the time in environments and acting" in seen.seen
        assert "`reverie bench loop`" in seen.seen + seen.advice


def test_an_infinite_error_proves_nothing() -> None:
    assert names(replayed(bias=5.0, bias_error=math.inf)) == set()


def test_the_page_of_the_docs_explains_every_rule() -> None:
    page = (Path(__file__).parents[3] / "docs" / "diagnose.md").read_text(encoding="utf-8")
    for rule in PROBLEMS:
        assert f"`{rule.name}`" in page, rule.name


def test_wider_clip_names_the_optimizer_whose_gradients_are_clipped() -> None:
    report = ill("", CASES["gradients-clipped"][0], config=preset("atari"))
    clipped = [name for name, found in report.learning.gradients.items() if found.clipped > 0.5]
    text = advice("{wider_clip}", report)
    assert clipped and text.count("max-grad-norm") == len(clipped)
    assert ("--behavior.critic" in text) == ("critic" in clipped)
