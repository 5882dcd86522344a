"""Number of CPU threads, fixed while a run lives: with another number, sums differ in their last bits."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Use a number of threads inside of the context, and the previous number afterwards.

    Args:
        count: number of threads; 0 leaves it to OMP_NUM_THREADS or PyTorch, which takes the usable cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def act_on_one_thread() -> None:
    """Use one thread in a process that only acts, unless OMP_NUM_THREADS is set; acting gains little from more."""
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(1)
