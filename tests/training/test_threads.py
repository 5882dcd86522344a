"""The number of CPU threads is that of the setting or the environment, and is restored after a run."""

from collections.abc import Iterator

import pytest
import torch

from reverie.training.threads import act_on_one_thread, cpu_threads


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("count", "expected"), [(0, 4), (2, 2)])
def test_cpu_threads_inside_and_after_the_context_is_the_setting_and_the_previous_number(
    count: int, expected: int
) -> None:
    with pytest.raises(KeyboardInterrupt), cpu_threads(count):
        assert torch.get_num_threads() == expected
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(("number", "expected"), [("8", 4), (None, 1)])
def test_act_on_one_thread_with_and_without_omp_num_threads_keeps_or_limits(
    number: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if number is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", number)
    act_on_one_thread()
    assert torch.get_num_threads() == expected
