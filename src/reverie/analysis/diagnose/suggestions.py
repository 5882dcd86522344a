"""Options to try, each with a value that follows from the run's own: `--world-model.kl.scale 0.03`."""

from reverie.analysis.diagnose.report import Report
from reverie.config import flatten, parse_schedule

OPTIMIZERS = {
    "model": "world_model.optimizer",
    "actor": "behavior.actor.optimizer",
    "critic": "behavior.critic.optimizer",
}


def times(report: Report, path: str, factor: float, zero: float = 1.0) -> str:
    """The option of a setting with its present value times a factor.

    Args:
        report: of the run.
        path: of the setting, which holds a number or a schedule.
        factor: what to multiply it with; the result has two digits, and stays whole where it was.
        zero: what to start from where the present value is 0.
    """
    present = flatten(report.config)[path]
    value = parse_schedule(present, path, report.config.env.action_repeat)(report.agent_steps) or zero
    text = f"{float(f'{value * factor:.2g}'):g}"
    if isinstance(present, int):
        text = str(max(round(value * factor), 1))
    return f"{option(path)} {text}"


def option(path: str) -> str:
    """As it is typed: `world_model.kl.scale` is `--world-model.kl.scale`."""
    return "--" + path.rstrip("_").replace("_", "-")


def kl_scale(report: Report, factor: float) -> str:
    """A cheaper or dearer KL: its scale, or, where the objective is split, the weights of both parts."""
    if report.config.world_model.kl.objective == "split":
        parts = [
            times(report, f"world_model.kl.{name}", factor, 0.1) for name in ("prior_scale", "posterior_entropy_scale")
        ]
        return " with ".join(parts)
    return times(report, "world_model.kl.scale", factor, 0.1)


def harder_prior(report: Report) -> str:
    """A prior that is pulled harder towards the posterior."""
    if report.config.world_model.kl.objective == "split":
        return times(report, "world_model.kl.prior_scale", 3, 0.1)
    return f"--world-model.kl.balance 0.9, or {kl_scale(report, 3)}"


def freer_posterior(report: Report) -> str:
    """A posterior for which entropy pays."""
    if report.config.world_model.kl.objective == "split":
        return times(report, "world_model.kl.posterior_entropy_scale", 3, 0.1)
    return kl_scale(report, 3)


def observation_scale(report: Report, factor: float) -> str:
    """More weight on the observation that findings speak of."""
    return times(
        report, f"world_model.loss_scales.{'image' if report.observation in report.images else 'vector'}", factor
    )


def wider_decoder(report: Report) -> str:
    """A decoder of twice the width for the observation that findings speak of."""
    part = "cnn_depth" if report.observation in report.images else "mlp.units"
    return times(report, f"world_model.decoder.{part}", 2)


def entropy(report: Report, factor: float) -> str:
    """More or less chance in actions."""
    return times(report, "behavior.actor.entropy", factor, 1e-3)


def rate(report: Report, name: str, factor: float) -> str:
    """Another learning rate; `name` is one of `OPTIMIZERS`."""
    return times(report, f"{OPTIMIZERS[name]}.lr", factor, 1e-4)


def random_play(report: Report) -> str:
    """Four times the prefill, and as many steps after it as now where it would leave none."""
    now = report.config.training
    more = times(report, "training.prefill", 4)
    return more if 4 * now.prefill < now.steps else f"{more} with --training.steps {now.steps + 3 * now.prefill}"
