"""Episodes as arrays, the recordings that hold them, and the errors of files that hold something else."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from reverie.envs.actions import check_actions
from reverie.envs.space_json import spec_from_json, spec_to_json
from reverie.errors import DataError, EnvError, ReverieError
from reverie.runs.atomic_io import Unreadable, atomic_write, dumps_checksummed, loads_checksummed, read_file
from reverie.specs import Array, EnvSpec, Step

Episode: TypeAlias = Step
"""Arrays [T+1, ...] by key. Row t holds observation t, and the action and reward that led to it (`specs.py`).

`is_first` is set in the first row alone, `is_last` in the last one alone, and `is_terminal` nowhere else."""

SPACES = "spaces.json"
"""Name of the file next to episodes that holds their spaces, as `envs.space_json` writes them."""
MAX_BYTES = 1 << 31
"""Most bytes of an episode, 27,000 steps of six images of Atari."""
MAX_STEPS = 1 << 24
_TOLERANCE = 1e-3  # as that of one-hot actions


@dataclass(frozen=True)
class Recording:
    """Episodes of one environment that are stored somewhere. Iteration reads them, one at a time."""

    path: Path
    spec: EnvSpec
    read: Callable[[], Iterator[Episode]]
    notes: list[str] = field(default_factory=list)
    """Sentences about what was converted or left out; reading may add some."""

    def __iter__(self) -> Iterator[Episode]:
        return self.read()

    def note(self, text: str) -> None:
        """Add a sentence, once."""
        if text not in self.notes:
            self.notes.append(text)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into a DataError of one sentence that names it."""
    try:
        yield
    except ReverieError:
        raise
    except Unreadable as error:
        raise DataError(f"{path} {error}. Nothing was done. Replace the file or move it away.") from error
    except Exception as error:  # Untrusted files: each library's parser raises its own kinds.
        said = " ".join(str(error).split())[:80] or type(error).__name__
        raise DataError(
            f"{path} cannot be read ({said}). Nothing was done. Replace the file or move it away."
        ) from error


@contextmanager
def optional_import() -> Iterator[None]:
    """Turn the failing import of a package of the extra `data` into a DataError with the command that installs it."""
    try:
        yield
    except ImportError as error:
        package = (error.name or "another package").partition(".")[0]
        raise DataError(
            f"This format needs {package}, which is not installed. Nothing was done. Type: pip install 'reverie[data]'"
        ) from None


def check_key(key: str) -> str:
    """Return the name of an observation; raise Unreadable if it is none, or could lead out of a folder."""
    if not re.fullmatch(r"[\w-][\w .-]*(/[\w-][\w .-]*)*", key) or ".." in key or len(key) > 100:
        raise Unreadable(f"has the key {key[:40]!r}, which is no name of an observation")
    return key


def check_size(num_bytes: int) -> None:
    """Raise Unreadable for an episode that is too large to be held in memory."""
    if num_bytes > MAX_BYTES:
        raise Unreadable(f"holds {num_bytes:,} bytes once unpacked, more than the {MAX_BYTES:,} of an episode")


def check_episode(episode: Mapping[str, Array], spec: EnvSpec) -> None:
    """Raise Unreadable unless this is an `Episode` of an environment."""
    if missing := sorted(spec.step.keys() - episode.keys()):
        raise Unreadable(f"lacks '{missing[0]}'")
    if unknown := sorted(episode.keys() - spec.step.keys()):
        raise Unreadable(f"has '{unknown[0]}', which other episodes lack")
    length = len(episode["action"])
    if not 1 <= length < MAX_STEPS:
        raise Unreadable(f"has an episode of {length:,} rows")
    for key, entry in spec.step.items():
        array, shape = episode[key], (length, *entry.shape)
        if array.shape != shape or array.dtype != entry.dtype:
            raise Unreadable(f"has '{key}' of {array.dtype} {array.shape} where {entry.dtype} {shape} is needed")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise Unreadable(f"has '{key}' with NaN or infinity")
    for name, rows in (("is_first", episode["is_first"][1:]), ("is_last", episode["is_last"][:-1])):
        if rows.any():
            raise Unreadable(f"has '{name}' set within an episode")
    if episode["is_terminal"][:-1].any():
        raise Unreadable("has 'is_terminal' set before the last row of an episode")
    # A first action of zeros follows no decision.
    actions = episode["action"] if episode["action"][0].any() else episode["action"][1:]
    try:
        check_actions(actions, spec.action, len(actions))
    except EnvError as error:
        raise Unreadable("has actions that are not one-hot, as those of other episodes are") from error
    if spec.action.kind == "continuous" and np.abs(actions).max(initial=0) > 1 + _TOLERANCE:
        raise Unreadable("has actions beyond [-1, 1]; scale them to the bounds of the environment")


def flags(length: int, is_terminal: object) -> Step:
    """Return `is_first`, `is_last` and `is_terminal` of an episode of so many rows."""
    rows = np.arange(length)
    last = rows == length - 1
    return {"is_first": rows == 0, "is_last": last, "is_terminal": last & bool(is_terminal)}


def from_transitions(observations: Step, actions: Array, rewards: Array, is_terminal: object) -> Episode:
    """Return an episode, given T+1 observations and the T actions taken at all but the last, with their rewards.

    This is the shift by one: action a_t, taken at o_t, is in row t+1, since it led to o_{t+1}.
    """
    num_actions = len(actions)
    if len(rewards) != num_actions or any(len(values) != num_actions + 1 for values in observations.values()):
        sizes = {key: len(values) for key, values in observations.items()}
        raise Unreadable(f"has {num_actions} actions, {len(rewards)} rewards and {sizes} observations in an episode")
    return {
        **observations,
        "action": np.concatenate([np.zeros((1, *actions.shape[1:]), np.float32), actions], dtype=np.float32),
        "reward": np.concatenate([np.zeros(1, np.float32), as_float32(rewards, "reward")]),
        **flags(num_actions + 1, is_terminal),
    }


def to_transitions(episode: Episode) -> tuple[Array, Array]:
    """Return the T actions taken at all observations but the last, and their rewards: invert `from_transitions`."""
    return episode["action"][1:], episode["reward"][1:]


def as_float32(values: Array, name: str) -> Array:
    """Return numbers as float32; raise Unreadable if they are none, or infinite then."""
    if values.dtype.kind not in "fiub":
        raise Unreadable(f"has '{name}' of {values.dtype}, which are no numbers")
    with np.errstate(over="ignore"):
        result = values.astype(np.float32)
    if not np.isfinite(result).all():
        raise Unreadable(f"has '{name}' with NaN or infinity")
    return result


def write_spec(folder: Path, spec: EnvSpec) -> None:
    """Write the spaces of an environment next to its episodes."""
    atomic_write(folder / SPACES, dumps_checksummed(spec_to_json(spec)))


def read_spec(folder: Path) -> EnvSpec | None:
    """Return what `write_spec` wrote; None if there is nothing."""
    path = folder / SPACES
    if not path.exists():
        return None
    with reading(path):
        return spec_from_json(loads_checksummed(read_file(path, limit=1 << 24)), str(path))
