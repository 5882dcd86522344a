"""Numbers that change from one update to the next: learning rates and weights of losses.

They are Python numbers, or tensors without axes. Tensors are for a GPU that repeats a recorded update: it reads them
where they lie, so that new values need no new recording.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

Scalar = float | Tensor
Scalars = Mapping[str, Scalar]


def active(weight: Scalar) -> bool:
    """Whether a term of this weight counts. A tensor always does: to look at its value would wait for the device."""
    return isinstance(weight, Tensor) or weight != 0


def as_tensor(scalar: Scalar, device: torch.device) -> Tensor:
    """The scalar as a tensor on the device, without a copy from the host's memory."""
    return scalar if isinstance(scalar, Tensor) else torch.full((), scalar, device=device)
