"""An index that somebody made up, with a right checksum: it is refused with a sentence, or what it says is there."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.config import ReplayConfig
from reverie.errors import ReplayError
from reverie.replay import Replay, ReplayReader, examine, repair
from reverie.runs.atomic_io import dumps_checksummed, loads_checksummed
from reverie.specs import STEP_KEYS, ArraySpec
from tests.helpers.untrusted_files import HOSTILE, little_memory, spoiled

SPECS = {"vector": ArraySpec((3,), "float32"), "action": ArraySpec((2,), "float32"), **STEP_KEYS}
CONFIG = ReplayConfig(capacity=4096, batch_size=2, batch_length=4)


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


@HOSTILE
@given(data=st.data())
def test_made_up_indices(recorded: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = loads_checksummed((recorded / "index.json").read_bytes(), None)
    made_up = data.draw(spoiled(content))
    shutil.rmtree(tmp_path)
    shutil.copytree(recorded, tmp_path)
    try:
        (tmp_path / "index.json").write_bytes(dumps_checksummed(made_up, None))
    except (ValueError, TypeError):
        return
    with little_memory():
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
