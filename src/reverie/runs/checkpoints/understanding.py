"""Checkpoints from strangers: right checksums, and contents that nobody expects."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from reverie.errors import CheckpointError

_UNEXPECTED = (ArithmeticError, AttributeError, LookupError, RecursionError, RuntimeError, TypeError, ValueError)


@contextmanager
def understood(where: Path | str) -> Iterator[None]:
    """What is read here has its checksums, but anybody could have written it.

    Args:
        where: it was read, for the message.

    Raises:
        CheckpointError: in place of whatever contents of another kind than expected have led to.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except _UNEXPECTED as error:
        said = " ".join(str(error).split())[:100]
        raise CheckpointError(
            f"{where} is whole, but does not hold what this version of reverie expects ({type(error).__name__}: "
            f"{said}); use the program that wrote it."
        ) from error
