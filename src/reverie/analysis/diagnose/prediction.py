"""Open-loop errors by horizon: the model and two naive predictions."""

import math
from collections.abc import Mapping
from itertools import groupby

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reverie.analysis.format import Measures
from reverie.dreamer import Dreamer, State
from reverie.dreamer.world_model import Batch
from reverie.specs import Array

SAMPLES = 4
"""Imagined futures whose mean is compared. Where the future is uncertain, a single draw of a perfect model has twice
the error of the mean."""
MARGIN = 0.95
"""Share of another prediction's error below which a prediction is better; 5 % is within the noise of a sample."""
NEAR = slice(1, 6)  # horizons that count as near


def squared_errors(
    predicted: Float[Tensor, "H1 B *X"],
    actual: Float[Tensor, "H1 B *X"],
    mean: Float[Tensor, "*X"],
    valid: Bool[Tensor, "H1 B"],
) -> Float[Tensor, "4 H1"]:
    """Return errors of model, repeating and mean, summed over `valid` steps, in the same episode, and their number.

        e_h = sum over valid b of mean_x (predicted[h, b, x] - actual[h, b, x])^2

    Entry 0 is the last step that the model saw, entry h is h steps later. Results of several batches add up.
    """

    def error(guess: Tensor) -> Tensor:
        each = (guess - actual).square().flatten(2).mean(-1) if actual.dim() > 2 else (guess - actual).square()
        return (each * valid).sum(1)

    return torch.stack([error(predicted), error(actual[:1]), error(mean), valid.sum(1).float()])


def open_loop_errors(
    agent: Dreamer,
    data: Batch,
    posterior: State,
    context: int,
    means: Mapping[str, Tensor],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Imagine from the last step of the context along the true actions, and return `squared_errors` by key.

    Data are preprocessed steps [T, B, …], T = context + H, with their posterior states; means, of the observations and
    of `reward` over all data, name the keys to compare.
    """
    model = agent.world_model
    actions = data["action"][context:]
    start = posterior.map(lambda part: part[context - 1])
    sums: dict[str, Tensor] = {}
    for _ in range(SAMPLES):
        noise = model.rssm.latents.draw_noise(tuple(actions.shape[:2]), generator)
        feat = torch.cat([start.feat[None], model.rssm.imagine(actions, start, noise).feat])
        images = {key: image.clamp(-0.5, 0.5) for key, image in model.decoder.images(feat).items()}
        for key, value in {**images, **model.decoder.vectors(feat), "reward": model.reward(feat)}.items():
            sums[key] = sums[key] + value if key in sums else value
    begun = data["is_first"][context - 1 :].clone()
    begun[0] = False
    valid = begun.cumsum(0) == 0  # no new episode since the last step that was seen
    return {
        key: squared_errors(sums[key] / SAMPLES, data[key][context - 1 :], mean, valid)
        for key, mean in means.items()
        if key in sums
    }


def measure_prediction(errors: Float[Tensor, "4 H1"], planned: int) -> Measures:
    """Measure mean squared errors by horizon 0 … H, nan where no sequence reaches; the actor plans `planned` steps."""
    model, repeat, mean = (errors[:3].double() / errors[3]).cpu().numpy()
    better = model < MARGIN * np.minimum(repeat, mean)
    spans = [list(span) for is_better, span in groupby(range(1, len(model)), better.__getitem__) if is_better]
    longest = max(spans, key=len, default=[])
    known = model[1 : planned + 1][np.isfinite(model[1 : planned + 1])]
    return Measures(
        model=model.tolist(),
        repeat=repeat.tolist(),  # of repeating the last value that the model saw
        mean=mean.tolist(),  # of the mean over the data
        seen_error=float(model[0]),
        planned_error=float(known.mean()) if len(known) else math.nan,
        reconstruction=share_of(model[:1], mean[:1]),  # error where the model has seen it, as a share of the mean's
        near=share_of(model[NEAR], repeat[NEAR]),  # error as a share of that of repeating
        useful=f"{longest[0]} to {longest[-1]}" if longest else "none",  # longest row of horizons better than naive
        last_useful=longest[-1] if longest else 0,
    )


def share_of(model: Array, naive: Array) -> float:
    """Return the error as a share of a naive prediction's; nan if it is unknown, or that prediction is perfect."""
    total = np.nansum(naive)
    return float(np.nansum(model) / total) if total > 1e-12 * len(model) else math.nan
