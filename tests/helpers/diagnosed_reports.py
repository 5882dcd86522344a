"""A report of a run in good health, and ways to make it ill."""

import math
from typing import Any

import torch

from reverie.analysis.diagnose import Report
from reverie.analysis.diagnose.learning import Trend
from reverie.analysis.diagnose.prediction import measure_prediction
from reverie.analysis.diagnose.statistics import Bin
from reverie.analysis.format import Measures
from reverie.config import preset


def predicted(model: list[float], repeat: list[float], mean: list[float], planned: int = 15) -> Measures:
    """Measures of predictions with these errors by horizon."""
    reached = [float(not math.isnan(error)) for error in model]
    return measure_prediction(torch.tensor([model, repeat, mean, reached], dtype=torch.float64), planned)


def healthy() -> Report:
    """Nothing is wrong with it."""
    flat = Trend(1.0, 0.0, "flat")
    norms = Measures(median=5.0, largest=20.0, clip=100.0, clipped=0.0)
    good = Measures(
        value=1.0, returns=1.05, bias=-0.05, bias_error=0.02, spread=0.8, correlation=0.9, explained=0.8, states=1000
    )
    return Report(
        run="runs/boxing",
        config=preset("atari-small").for_env("ALE/Boxing-v5"),
        environment="ALE/Boxing-v5",
        agent_steps=100_000,
        frames=400_000,
        updates=12_000,
        steps_seen=6_400,
        replay_steps=100_000,
        shared_steps=0,
        context=5,
        observation="image",
        images=["image"],
        latents=Measures(
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
            unused_classes=1,
        ),
        prediction={
            "image": predicted([0.0005] + [0.001] * 30, [0.0] + [0.004] * 30, [0.005] * 31),
            "reward": predicted([0.01] * 31, [0.0] + [0.05] * 30, [0.03] * 31),
        },
        reward=Measures(
            mean=0.02,
            predicted_mean=0.02,
            correlation=0.9,
            explained=0.8,
            events=400,
            groups={"zero": Bin(0.01, 0.0, 6000), "positive": Bin(0.7, 0.76, 300), "negative": Bin(-0.6, -0.76, 100)},
            bins=[Bin(-0.7, -0.7, 90), Bin(0.0, 0.0, 6000), Bin(0.7, 0.72, 310)],
        ),
        discount=Measures(
            gamma=0.99,
            on_going=0.989,
            on_terminal=0.05,
            terminals=20,
            end_rate=0.001,
            predicted_end_rate=0.0015,
            bins=[Bin(0.0005, 0.0, 6390), Bin(0.95, 1.0, 10)],
        ),
        value={"imagined": good, "replayed": changed(good, returns=0.8, bias=0.2, spread=1.0)},
        actor=Measures(
            kind="discrete",
            entropy=1.0,
            max_entropy=2.89,
            entropy_share=0.35,
            certain=0.2,
            dependence=0.6,
            favourite=2,
            favourite_share=0.5,
            actions=[[0.3, 0.2, 0.5]],
        ),
        learning=Measures(
            rows=100,
            not_finite=0,
            skipped=0,
            gradients={"model": norms, "actor": norms, "critic": norms},
            trends={"model/image_loss": flat, "model/reward_loss": flat, "model/kl": flat},
            imagined_reward=Measures(best=0.03, latest=0.02),
        ),
        speed=Measures(frames_per_second=400.0, updates_per_second=6.25, collect_share=0.3, update_share=0.6),
        holdout=None,
        points=([0.0, 1.0], [0.1, 0.9]),
    )


def ill(part: str, report: Report | None = None, **changes: Any) -> Report:
    """A copy in which some measures of one part, such as `latents`, or of the report itself (""), are others."""
    report = report or healthy()
    return changed(report, **({part: changed(getattr(report, part), **changes)} if part else changes))


def changed(measures: Measures, **changes: Any) -> Measures:
    """Return a copy in which some measures are others."""
    return Measures(**{**vars(measures), **changes})
