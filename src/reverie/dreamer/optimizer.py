"""The release's Adam: clip, decay, step (SPEC 34, 35; golden file 08)."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reverie.config import OptimizerConfig, parse_schedule
from reverie.dreamer.layers import Scalar

BETA1, BETA2 = 0.9, 0.999


class OptimizerStep(NamedTuple):
    """Result of `Optimizer.step`."""

    grad_norm: Float[Tensor, ""]
    """Global norm of the gradients before clipping."""
    is_valid: Bool[Tensor, ""]
    """False where parameters and moments are unchanged, because the loss or gradients are not finite."""


class Optimizer:
    """Adam of TensorFlow with gradient clipping and weight decay.

        g <- g * min(1, max_grad_norm / |g|)
        p <- p * (1 - weight_decay)
        m <- beta1 m + (1 - beta1) g
        v <- beta2 v + (1 - beta2) g^2
        p <- p - lr * sqrt(1 - beta2^n) / (1 - beta1^n) * m / (sqrt(v) + eps)

    Two things differ from `torch.optim.AdamW`: epsilon is added to sqrt(v) before the bias correction, and the decay is
    not scaled by the learning rate. Gradients are taken before the decay.

    A step whose loss or gradients are not finite changes neither parameters nor moments; it is counted in n. In code, m
    and v are `exp_avg` and `exp_avg_sq`, as in `torch.optim`.
    """

    def __init__(self, modules: Iterable[nn.Module], config: OptimizerConfig) -> None:
        self.parameters: list[Tensor] = [p for module in modules for p in module.parameters()]
        self.config = config
        self.decayed = [p for p in self.parameters if config.weight_decay_on == "all" or p.ndim > 1]
        self.exp_avg = [torch.zeros_like(p) for p in self.parameters]
        self.exp_avg_sq = [torch.zeros_like(p) for p in self.parameters]
        self.num_steps = torch.zeros((), dtype=torch.float64, device=self.parameters[0].device)
        """n, a tensor so that a recorded step can count."""

    def learning_rate(self, agent_step: float) -> float:
        """Return the learning rate, before the bias correction."""
        return parse_schedule(self.config.lr)(agent_step)

    def step(self, loss: Float[Tensor, ""], lr: Scalar, is_valid: Bool[Tensor, ""] | bool = True) -> OptimizerStep:
        """Take one gradient step.

        Args:
            loss: differentiated with respect to this optimizer's parameters only.
            lr: learning rate.
            is_valid: False only counts the step.
        """
        value, gradients = self.differentiate(loss)
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        valid = value.isfinite() & norm.isfinite() & is_valid
        self.num_steps += 1
        with torch.no_grad():
            self.apply(gradients, norm, lr, valid)
        return OptimizerStep(norm, valid)

    def differentiate(self, loss: Float[Tensor, ""]) -> tuple[Float[Tensor, ""], list[Tensor]]:
        """Return the loss without gradient, and its gradients by parameter, both over the whole batch."""
        return loss.detach(), list(torch.autograd.grad(loss, self.parameters))

    def apply(self, gradients: list[Tensor], norm: Float[Tensor, ""], lr: Scalar, is_valid: Bool[Tensor, ""]) -> None:
        """Clip gradients of a global norm, decay the weights and update parameters and moments."""
        if not is_valid:  # synchronises a GPU with the host
            return
        config, n = self.config, float(self.num_steps)
        if config.max_grad_norm:
            torch._foreach_mul_(gradients, config.max_grad_norm / norm.clamp(min=config.max_grad_norm))
        for parameter in self.decayed:
            parameter.mul_(1 - config.weight_decay)
        step_size = float(lr) * (1 - BETA2**n) ** 0.5 / (1 - BETA1**n)
        for p, g, m, v in zip(self.parameters, gradients, self.exp_avg, self.exp_avg_sq, strict=True):
            m.mul_(BETA1).add_(g, alpha=1 - BETA1)
            v.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
            p.addcdiv_(m, v.sqrt() + config.eps, value=-step_size)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the count of steps, and the moments by number of the parameter."""
        moments = {"exp_avg": self.exp_avg, "exp_avg_sq": self.exp_avg_sq}
        state = {f"{index}.{name}": value for name, values in moments.items() for index, value in enumerate(values)}
        return {"num_steps": self.num_steps, **state}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copy the result of `state_dict` into this optimizer's tensors.

        Raises:
            ValueError: if a tensor is missing or has another shape.
        """
        for name, own in self.state_dict().items():
            if name not in state or state[name].shape != own.shape:
                found = tuple(state[name].shape) if name in state else "missing"
                raise ValueError(f"optimizer state {name} should have shape {tuple(own.shape)}, but it is {found}")
            own.copy_(state[name])
