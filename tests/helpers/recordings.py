"""Episodes made by hand, and the places where they are stored."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from reverie.cli.main import main
from reverie.data import Episode, Recording, import_episodes
from reverie.envs.space_json import adapt
from reverie.replay import ReplayBuffer
from reverie.specs import EnvSpec


def make_spec(action: Any, **observations: Any) -> EnvSpec:
    """Return the spec of an environment with these spaces; those of observations by key."""
    return adapt(spaces.Dict([*observations.items()]), action, "Test")[2]


def image_space(channels: int = 3) -> spaces.Box:
    return spaces.Box(0, 255, (64, 64, channels), np.uint8)


def vector_space(size: int = 4) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (size,))


PICTURES = make_spec(spaces.Discrete(3), image=image_space())
POLE = make_spec(spaces.Discrete(2), vector=vector_space())
ARM = make_spec(spaces.Box(-1, 1, (2,)), image=image_space(1), vector=vector_space(3), joint=vector_space(1))
LAMPS = make_spec(spaces.MultiDiscrete([2, 3]), vector=vector_space(2))
SPECS = {"pictures": PICTURES, "pole": POLE, "arm": ARM, "lamps": LAMPS}


def make_episode(spec: EnvSpec, length: int, is_terminal: bool, rng: np.random.Generator) -> Episode:
    """Return an episode of so many actions, with random contents."""
    rows = np.arange(length + 1)
    observations = {
        key: rng.integers(0, 256, (length + 1, *entry.shape), np.uint8)
        if entry.is_image
        else rng.normal(0, 100, (length + 1, *entry.shape)).astype(np.float32)
        for key, entry in spec.observations.items()
    }
    if spec.action.kind == "discrete":
        parts = [np.eye(size, dtype=np.float32)[rng.integers(0, size, length + 1)] for size in spec.action.sizes]
        action = np.concatenate(parts, 1)
    else:
        action = rng.uniform(-1, 1, (length + 1, spec.action.size)).astype(np.float32)
    action[0] = 0
    reward = rng.normal(0, 1, length + 1).astype(np.float32)
    reward[0] = 0
    is_last = rows == length
    return {
        **observations,
        "action": action,
        "reward": reward,
        "is_first": rows == 0,
        "is_last": is_last,
        "is_terminal": is_last & is_terminal,
    }


def make_episodes(spec: EnvSpec, lengths: Sequence[int] = (5, 1, 9), seed: int = 0) -> list[Episode]:
    """Return episodes, of which the first and every second one are terminal."""
    rng = np.random.default_rng(seed)
    return [make_episode(spec, length, number % 2 == 0, rng) for number, length in enumerate(lengths)]


def store(path: Path, spec: EnvSpec, episodes: Iterable[Episode]) -> Path:
    """Store episodes in a folder of data."""
    import_episodes(Recording(Path("made"), spec, lambda: iter(episodes)), path)
    return path


def stored(path: Path) -> list[Episode]:
    """Return the episodes of a replay."""
    with ReplayBuffer(path) as replay:
        return [*replay.episodes()]


def assert_same(found: Sequence[Episode], expected: Sequence[Episode]) -> None:
    """Assert that episodes are the same, bit for bit."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key, rows in one.items():
            assert rows.dtype == other[key].dtype and rows.shape == other[key].shape, key
            assert rows.tobytes() == other[key].tobytes(), key


def run(*words: object) -> int:
    """Run a command of `reverie data` and return its exit status."""
    return main(["data", *map(str, words)])


def refused(capsys: Any, name: str, *words: object) -> str:
    """Assert that an import is refused in a sentence with a file's name, and return the sentence."""
    source, data = Path(str(words[0])), Path(str(words[0])).parent / "refused"
    before = sorted(source.parent.iterdir())
    capsys.readouterr()
    assert run("import", source, data, *words[1:]) == 1
    error = str(capsys.readouterr().err)
    assert error.startswith("error: ") and error.count("\n") == 1 and "Traceback" not in error
    assert name in error, error
    assert "Nothing was" in error and "Type-check" not in error, error
    assert sorted(source.parent.iterdir()) == before, "something remains"
    return error
