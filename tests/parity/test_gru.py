"""File 02: the recurrent cell, with and without its layer norm."""

import pytest

from reverie.dreamer.layers import LAYER_NORM_EPS
from reverie.dreamer.rssm import UPDATE_BIAS, GRUCell
from tests.parity.compare import (
    DEVICE,
    FORWARD,
    GRADIENT,
    Golden,
    LoadGolden,
    LoadWeights,
    close,
    group,
    leaf_gradients,
    named_gradients,
    tensor,
)
from tests.parity.weights import close_gradients

ROOT = "world_model.rssm.cell"


def _weights(arrays: Golden, prefix: str) -> Golden:
    return {f"rssm/cell/{name}": array for name, array in group(arrays, prefix).items()}


def _cell(load: LoadWeights, arrays: Golden, layer_norm: bool) -> GRUCell:
    cell = GRUCell(arrays["inputs"].shape[-1], arrays["state"].shape[-1], layer_norm).to(DEVICE)
    load(cell, _weights(arrays, "param/"), ROOT)
    return cell


@pytest.mark.parametrize("case", ["norm", "nonorm"])
def test_gru_one_step_has_the_output_and_gradients_of_the_release(
    golden: LoadGolden, load: LoadWeights, case: str
) -> None:
    arrays = group(golden("02_gru_cell"), f"{case}/")
    cell = _cell(load, arrays, case == "norm")
    inputs, state = tensor(arrays["inputs"], grad=True), tensor(arrays["state"], grad=True)
    output = cell(inputs, state)
    close(output, arrays["output"], FORWARD)
    loss = (output * tensor(arrays["cotangent"])).sum()
    for gradient, name in zip(leaf_gradients(loss, [inputs, state]), ("inputs", "state"), strict=True):
        close(gradient, arrays[f"grad_{name}"], GRADIENT, name)
    close_gradients(named_gradients(loss, cell), _weights(arrays, "grad/"), GRADIENT, ROOT)


@pytest.mark.parametrize("case", ["norm", "nonorm"])
def test_gru_sequence_has_the_states_of_the_release(golden: LoadGolden, load: LoadWeights, case: str) -> None:
    arrays = group(golden("02_gru_cell"), f"{case}/")
    cell = _cell(load, arrays, case == "norm")
    state = tensor(arrays["state"])
    for inputs, expected in zip(tensor(arrays["seq_inputs"]), arrays["seq_output"], strict=True):
        state = cell(inputs, state)
        close(state, expected, FORWARD)


def test_gru_constants_are_those_of_the_release(golden: LoadGolden) -> None:
    arrays = golden("02_gru_cell")
    assert float(arrays["norm/epsilon"]) == pytest.approx(LAYER_NORM_EPS)
    for case in ("norm", "nonorm"):
        assert float(arrays[f"{case}/update_bias"]) == UPDATE_BIAS
