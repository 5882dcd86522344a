"""Adam as the release uses it."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reverie.config import OptimizerConfig
from reverie.networks.scalars import Scalar
from reverie.schedules import parse_schedule

BETAS = (0.9, 0.999)
CORRECTED = 1e9
"""A count of steps after which PyTorch's bias correction is 1."""


class Stepped(NamedTuple):
    """What `Optimizer.step` returns."""

    norm: Float[Tensor, ""]
    """Global norm of the gradients before clipping."""
    skipped: Float[Tensor, ""]
    """1 where nothing was changed, because loss or gradients are not finite; else 0."""


class Optimizer:
    """Clip by global norm, decay the weights, then TensorFlow's Adam (SPEC 34, 35; golden file 08).

    Decay multiplies every parameter by 1 - weight_decay, whatever the learning rate, after the gradients were taken.
    TensorFlow's Adam is Adam without bias correction at another learning rate (see `advance`): epsilon is added to
    sqrt(v) as it is, where PyTorch's own Adam corrects sqrt(v) first.

    A step whose loss or gradients are not finite changes nothing; only `advance` counts it. Whether they are is decided
    on the device, so that nobody waits for it.
    """

    def __init__(self, modules: Iterable[nn.Module], config: OptimizerConfig) -> None:
        self.parameters: list[Tensor] = [p for module in modules for p in module.parameters()]
        self._config = config
        self._lr = parse_schedule(config.lr)
        self._decayed = [p for p in self.parameters if config.weight_decay_on == "all" or p.ndim > 1]
        self._mean = [torch.zeros_like(p) for p in self.parameters]
        self._square = [torch.zeros_like(p) for p in self.parameters]
        self._steps = [torch.full((), CORRECTED, device=p.device) for p in self.parameters]
        self.updates = 0

    def advance(self, agent_step: float) -> float:
        """Count an update.

            lr * sqrt(1 - beta2^n) / (1 - beta1^n)

        Args:
            agent_step: position in the learning rate's schedule.

        Returns:
            The learning rate of the n-th update, for `step`.
        """
        self.updates += 1
        first, second = (1 - beta**self.updates for beta in BETAS)
        return self._lr(agent_step) * second**0.5 / first

    def step(self, loss: Tensor, lr: Scalar) -> Stepped:
        """Update the parameters by one gradient step.

        Args:
            loss: a scalar; only this optimizer's parameters receive gradients.
            lr: from `advance`.
        """
        gradients = list(torch.autograd.grad(loss, self.parameters))
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        sound = loss.detach().isfinite() & norm.isfinite()
        skipped = (~sound).float()
        if self._config.max_grad_norm:
            # min(1/norm, 1/max_grad_norm) * max_grad_norm
            torch._foreach_mul_(
                gradients, self._config.max_grad_norm * (1 / norm).clamp(max=1 / self._config.max_grad_norm)
            )
        with torch.no_grad():
            torch._foreach_mul_(self._decayed, torch.where(sound, 1 - self._config.weight_decay, 1.0))
            self._apply(gradients, lr, skipped)
        return Stepped(norm, skipped)

    def _apply(self, gradients: list[Tensor], lr: Scalar, skip: Float[Tensor, ""]) -> None:
        # The fused kernel walks through memory: a gradient in another layout, such as channels-last, would be permuted.
        gradients = [
            gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)
            for parameter, gradient in zip(self.parameters, gradients, strict=True)
        ]
        torch._fused_adam_(
            self.parameters,
            gradients,
            self._mean,
            self._square,
            [],
            self._steps,
            lr=lr,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=0.0,
            eps=self._config.eps,
            amsgrad=False,
            maximize=False,
            found_inf=skip,
        )
        # The kernel does not count this as a change, and what keeps copies of weights goes by that count.
        torch.autograd.graph.increment_version(self.parameters)

    def _moments(self) -> dict[str, Tensor]:
        lists = {"exp_avg": self._mean, "exp_avg_sq": self._square}
        return {f"{index}.{name}": value for name, values in lists.items() for index, value in enumerate(values)}

    def state_dict(self) -> dict[str, Tensor]:
        """Moments, by number of the parameter: with `updates`, all that further steps depend on."""
        return self._moments()

    def load_state_dict(self, state: dict[str, Tensor], updates: int) -> None:
        """Restore what `state_dict` returned, after `updates` steps; the tensors stay where they are.

        Raises:
            ValueError: if a moment is not of its parameter's shape.
        """
        self.updates = updates
        for name, moment in self._moments().items():
            if state[name].shape != moment.shape:
                raise ValueError(f"moment {name} has shape {tuple(state[name].shape)} instead of {tuple(moment.shape)}")
            moment.copy_(state[name])
