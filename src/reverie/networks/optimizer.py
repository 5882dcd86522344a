"""Adam as the release uses it."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from reverie.config import OptimizerConfig
from reverie.schedules import parse_schedule

BETAS = (0.9, 0.999)


class Optimizer:
    """Clip by global norm, decay the weights, then TensorFlow's Adam (SPEC 34, 35; golden file 08).

    Decay multiplies every parameter by 1 - weight_decay, whatever the learning rate, after the gradients were taken.
    TensorFlow adds epsilon to sqrt(v) before the bias correction, PyTorch after it; dividing epsilon by the correction
    makes them agree.
    """

    def __init__(self, modules: Iterable[nn.Module], config: OptimizerConfig) -> None:
        self.parameters: list[Tensor] = [p for module in modules for p in module.parameters()]
        self._config = config
        self._lr = parse_schedule(config.lr)
        self._decayed = [p for p in self.parameters if config.decay == "all" or p.ndim > 1]
        self._adam = torch.optim.Adam(self.parameters, lr=0.0, betas=BETAS, eps=config.eps, fused=True)
        self.updates = 0

    def step(self, loss: Tensor, agent_step: float) -> Tensor:
        """Update the parameters by one gradient step.

        Args:
            loss: a scalar; only this optimizer's parameters receive gradients.
            agent_step: position in the learning rate's schedule.

        Returns:
            The global norm of the gradients before clipping.
        """
        gradients = list(torch.autograd.grad(loss, self.parameters))
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if self._config.clip:
            # min(1/norm, 1/clip) * clip: an infinite norm gives NaN instead of a silent zero update, as in the release.
            torch._foreach_mul_(gradients, self._config.clip * (1 / norm).clamp(max=1 / self._config.clip))
        with torch.no_grad():
            torch._foreach_mul_(self._decayed, 1 - self._config.weight_decay)
        self._apply(gradients, agent_step)
        return norm

    def _apply(self, gradients: list[Tensor], agent_step: float) -> None:
        self.updates += 1
        group = self._adam.param_groups[0]
        group["lr"] = self._lr(agent_step)
        group["eps"] = self._config.eps / (1 - BETAS[1] ** self.updates) ** 0.5
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            # Fused Adam walks through memory: a gradient in another layout, such as channels-last, would be permuted.
            same_layout = gradient.stride() == parameter.stride()
            parameter.grad = gradient if same_layout else torch.empty_like(parameter).copy_(gradient)
        self._adam.step()
        self._adam.zero_grad()

    def state_dict(self) -> dict[str, Tensor]:
        """Moments and step counts, by number of the parameter: all that further steps depend on."""
        return {
            f"{index}.{name}": value
            for index, parameter in enumerate(self.parameters)
            for name, value in self._adam.state[parameter].items()
        }

    def load_state_dict(self, state: dict[str, Tensor], updates: int) -> None:
        """Restore what `state_dict` returned, after `updates` steps."""
        self.updates = updates
        for index, parameter in enumerate(self.parameters):
            names = ("step", "exp_avg", "exp_avg_sq")
            if f"{index}.step" in state:
                self._adam.state[parameter] = {
                    name: state[f"{index}.{name}"].clone().to(parameter.device) for name in names
                }
