"""Number of CPU threads of a process."""

import os

import torch

from reverie.provenance import usable_cores


def resolve_threads(setting: int, recorded: int | None = None, num_learners: int = 1) -> int:
    """Return the setting, else what the resumed run had, else `OMP_NUM_THREADS`, else the usable cores per learner."""
    if setting or recorded:
        return setting or recorded or 1
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(given) if given.isdecimal() and int(given) > 0 else max(1, usable_cores() // num_learners)


def act_on_one_thread() -> None:
    """Use one thread in a process that only acts, unless OMP_NUM_THREADS is set; acting gains little from more."""
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(1)
