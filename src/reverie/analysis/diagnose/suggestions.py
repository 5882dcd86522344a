"""Options to try, with values that follow from the run's own: `--world-model.kl.scale 0.03`.

Advice is a format string: `{kl_scale:0.3}` is the option with 0.3 times its present value.
"""

from fractions import Fraction
from typing import Any

from reverie.analysis.diagnose.learning import OFTEN, OPTIMIZERS
from reverie.analysis.diagnose.report import Report
from reverie.config import flatten, parse_schedule

HEAVY = 10.0  # reward scale from which a larger one is not advised: rewards then outweigh small objects
WIDTHS = {"image": "cnn_depth", "vector": "mlp.units"}  # settings of the decoder's width


class Option:
    """Options of settings that scale together; the format `3` or `2/3` is the factor for their present values."""

    def __init__(self, report: Report, *paths: str, zero: float = 1.0) -> None:
        """Take paths of settings that hold numbers or schedules; where one is 0, `zero` is scaled instead."""
        self.report, self.paths, self.zero = report, paths, zero

    def __getitem__(self, path: str) -> "Option":
        return Option(self.report, path)

    def __format__(self, factor: str) -> str:
        return " with ".join(self._scaled(path, float(Fraction(factor))) for path in self.paths)

    def _scaled(self, path: str, factor: float) -> str:
        """Return the option with two significant digits, whole where the setting is."""
        present = flatten(self.report.config)[path]
        schedule = parse_schedule(present, path, self.report.config.env.action_repeat)
        value = factor * (schedule(self.report.agent_steps) or self.zero)
        text = str(max(round(value), 1)) if isinstance(present, int) else f"{float(f'{value:.2g}'):g}"
        return f"--{path.rstrip('_').replace('_', '-')} {text}"


def suggestions(report: Report) -> dict[str, Any]:
    """Return everything that advice can refer to, by name; `{option[training.steps]:2}` is any single setting."""
    option = Option(report)
    model, training = report.config.world_model, report.config.training
    is_split = model.kl.objective == "split"
    scales = [f"world_model.kl.{name}" for name in ("prior_scale", "posterior_entropy_scale")]
    scales = scales if is_split else ["world_model.kl.scale"]
    prior, posterior = (f"{Option(report, path, zero=0.1):3}" for path in (scales[0], scales[-1]))
    part = "image" if report.observation in report.images else "vector"
    lr = {name: Option(report, f"{path}.lr", zero=1e-4) for name, path in OPTIMIZERS.items()}
    random_play = f"{option['training.prefill']:4}"
    if 4 * training.prefill >= training.steps:  # as many steps after it as now, where it would leave none
        random_play += f" with --training.steps {training.steps + 3 * training.prefill}"
    clips = [  # twice the median norm, with half the rate, where gradients are often clipped
        f"{option[f'{OPTIMIZERS[name]}.max_grad_norm']:{2 * found.median / found.clip}} with {lr[name]:0.5}"
        for name, found in report.learning.gradients.items()
        if found.clipped > OFTEN
    ]
    reward_loss = f"Weigh rewards more, {option['world_model.loss_scales.reward']:10}"
    if model.loss_scales.reward >= HEAVY:
        reward_loss = f"Rewards weigh {model.loss_scales.reward:g} already: train longer"
    if not model.head_gradients.reward:
        reward_loss += ", and let them form the latents, --world-model.head-gradients.reward true"
    if not training.pretrain_world_model:  # as in the preset atari-laptop (docs/results.md, Boxing)
        reward_loss += (
            "; or in a new run let the world model learn from random play before behavior does, "
            "--training.pretrain-world-model 9000"
        )
    return {
        "option": option,
        "lr": lr,
        "entropy": Option(report, "behavior.actor.entropy", zero=1e-3),
        "kl_scale": Option(report, *scales, zero=0.1),
        "harder_prior": prior if is_split else f"--world-model.kl.balance 0.9, or {prior}",
        "freer_posterior": posterior,
        "observation_scale": option[f"world_model.loss_scales.{part}"],
        "wider_decoder": f"{option[f'world_model.decoder.{WIDTHS[part]}']:2}",
        "random_play": random_play,
        "wider_clip": ", ".join(clips),
        "reward_loss": reward_loss,
    }
