"""A report of a run in good health, and ways to make it ill."""

from dataclasses import replace
from typing import Any

from reverie.analysis.diagnose import Report
from reverie.analysis.diagnose.calibration import Bin, Discounts, Rewards
from reverie.analysis.diagnose.latents import Latents
from reverie.analysis.diagnose.learning import Gradients, Learning, Trend
from reverie.analysis.diagnose.policy import Policy
from reverie.analysis.diagnose.prediction import Horizons
from reverie.analysis.diagnose.values import Comparison, Values
from reverie.config import preset


def healthy() -> Report:
    """Nothing is wrong with it."""
    flat = Trend(1.0, 1.0, "flat")
    norms = Gradients(median=5.0, largest=20.0, clip=100.0, clipped=0.0, trend=flat)
    good = Comparison(
        value=1.0, returns=1.05, bias=-0.05, bias_error=0.02, spread=0.8, correlation=0.9, explained=0.8, states=1000
    )
    return Report(
        run="runs/boxing",
        config=preset("atari-small").for_env("ALE/Boxing-v5"),
        agent_steps=100_000,
        updates=12_000,
        steps_seen=6_400,
        replay_steps=100_000,
        context=5,
        latents=Latents(
            variables=4,
            classes=3,
            kl=2.0,
            kl_per_variable=[0.8, 0.6, 0.4, 0.2],
            unused_variables=0,
            posterior_entropy=1.5,
            prior_entropy=3.0,
            max_entropy=4.39,
            posterior_entropy_share=0.34,
            prior_entropy_share=0.68,
            information=2.5,
            informationless_variables=0,
            usage=[[0.5, 0.3, 0.2]] * 4,
            unused_classes=1,
            never_likeliest=2,
        ),
        predictions={
            "image": Horizons(model=[0.0005] + [0.001] * 30, repeat=[0.0] + [0.004] * 30, mean=[0.005] + [0.005] * 30),
            "reward": Horizons(model=[0.01] * 31, repeat=[0.0] + [0.05] * 30, mean=[0.03] * 31),
        },
        images=("image",),
        rewards=Rewards(
            mean=0.02,
            predicted_mean=0.02,
            correlation=0.9,
            explained=0.8,
            groups={"zero": Bin(0.01, 0.0, 6000), "positive": Bin(0.7, 0.76, 300), "negative": Bin(-0.6, -0.76, 100)},
            bins=[Bin(-0.7, -0.7, 90), Bin(0.0, 0.0, 6000), Bin(0.7, 0.72, 310)],
        ),
        discounts=Discounts(
            gamma=0.99,
            on_going=0.989,
            on_terminal=0.05,
            terminals=20,
            steps=6_400,
            end_rate=0.001,
            predicted_end_rate=0.0015,
            bins=[Bin(0.0005, 0.0, 6390), Bin(0.95, 1.0, 10)],
        ),
        values=Values(imagined=good, replayed=replace(good, value=1.0, returns=0.8, bias=0.2, spread=1.0)),
        policy=Policy(
            kind="discrete",
            entropy=1.0,
            max_entropy=2.89,
            entropy_share=0.35,
            certain=0.2,
            actions=[[0.3, 0.2, 0.5]],
            dependence=0.6,
            scale=None,
            mode=None,
        ),
        learning=Learning(
            rows=100,
            not_finite=0,
            skipped=0,
            gradients={"model": norms, "actor": norms, "critic": norms},
            trends={"model/image_loss": flat, "model/reward_loss": flat, "model/kl": flat},
            returns={"episode/return": 40.0},
        ),
    )


def ill(part: str, report: Report | None = None, **changes: Any) -> Report:
    """A copy in which some fields of one part, such as `latents`, or of the report itself (""), are others."""
    report = report or healthy()
    if not part:
        return replace(report, **changes)
    return replace(report, **{part: replace(getattr(report, part), **changes)})
