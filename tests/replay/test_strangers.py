"""An index that somebody made up, with a right checksum: it is refused with a sentence, or what it says is there."""

import copy
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reverie.config import ReplayConfig
from reverie.errors import ReplayError
from reverie.files import seal, unseal
from reverie.replay import Replay, ReplayReader, examine, repair
from reverie.spaces import STEP_KEYS, ArraySpec

SPECS = {"vector": ArraySpec((3,), "float32"), "action": ArraySpec((2,), "float32"), **STEP_KEYS}
CONFIG = ReplayConfig(capacity=4096, batch_size=2, batch_length=4)
NUMBERS = st.sampled_from(
    [-(1 << 70), -(1 << 63), -1, 0, 1, 2, 3, 40, 255, 257, 1 << 31, 1 << 40, 1 << 62, 1 << 63, 1 << 80]
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.floats(), st.text(max_size=5))
VALUES = st.recursive(
    SCALARS,
    lambda part: st.one_of(st.lists(part, max_size=3), st.dictionaries(st.text(max_size=5), part, max_size=3)),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replay")
    replay = Replay(folder, SPECS, CONFIG, 2)
    for i in range(300):
        step = {key: np.zeros((2, *spec.shape), spec.dtype) for key, spec in SPECS.items()}
        step["is_first"][:], step["is_last"][:] = i % 20 == 0, i % 20 == 19
        replay.add(step)
        if i == 150:
            replay.commit()
    replay.close()
    return folder


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Two gigabytes more than now: what takes more than its files' size fails here."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [place for key, part in inner for place in places(part, (*path, key))]


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    content = copy.deepcopy(content)
    part = content
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return content


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_made_up_indices(recorded: Path, tmp_path: Path, little_memory: None, data: st.DataObject) -> None:
    content = unseal((recorded / "index.json").read_bytes(), None)
    for _ in range(data.draw(st.integers(1, 3))):
        content = changed(content, data.draw(st.sampled_from(places(content)[1:])), data.draw(VALUES))
    shutil.rmtree(tmp_path)
    shutil.copytree(recorded, tmp_path)
    try:
        (tmp_path / "index.json").write_bytes(seal(content, None))
    except (ValueError, TypeError):
        return
    for use in (look, go_on, mend):
        try:
            use(tmp_path)
        except ReplayError as error:
            assert len(str(error)) < 2000


def look(folder: Path) -> None:
    with ReplayReader(folder, SPECS) as reader:
        reader.windows(np.random.default_rng(0), 4, 10)
        reader.endings(np.random.default_rng(0), 4, 10)


def go_on(folder: Path) -> None:
    replay = Replay(folder, SPECS, CONFIG, 2)
    replay.sample(np.random.default_rng(0))
    step = {key: np.zeros((2, *spec.shape), spec.dtype) for key, spec in SPECS.items()}
    step["is_first"][:] = True
    replay.add(step)
    replay.close()


def mend(folder: Path) -> None:
    examine(folder, SPECS)
    repair(folder, SPECS)
