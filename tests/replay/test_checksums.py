"""No row is read that is not the row that was stored: whatever happens to the files, it is found or has no effect."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from reverie.replay.segments import CHECKSUMS, SegmentLayout, SegmentStore

from reverie.config import ReplayConfig
from reverie.errors import ReplayError
from reverie.replay import Replay, ReplayReader, examine, repair
from reverie.runs.atomic_io import dumps_checksummed, loads_checksummed
from reverie.specs import STEP_KEYS, ArraySpec, Step

SPECS = {"vector": ArraySpec((3,), "float32"), "action": ArraySpec((2,), "float32"), **STEP_KEYS}
ROWS = 2 * 256 + 40
"""Of a stream; two segments are full."""


def make_step(number: int, streams: int, **flags: bool) -> Step:
    step = {key: np.zeros((streams, *spec.shape), spec.dtype) for key, spec in SPECS.items()}
    step["vector"][:] = np.random.default_rng(number).normal(size=(streams, 3))
    step["reward"][:] = number
    return {**step, **{key: np.full((streams, *SPECS[key].shape), value) for key, value in flags.items()}}


def open_replay(folder: Path, streams: int = 2) -> Replay:
    return Replay(folder, SPECS, ReplayConfig(capacity=4096, batch_size=4, batch_length=8), streams)


def fill(folder: Path, rows: int = ROWS, streams: int = 2) -> None:
    replay = open_replay(folder, streams)
    for i in range(rows):
        replay.add(make_step(i, streams, is_first=i % 20 == 0, is_last=i % 20 == 19))
    replay.close()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("replay")
    fill(folder)
    return folder, everything(folder)


def everything(folder: Path) -> str:
    with ReplayReader(folder, SPECS) as reader:
        return reader.digest()


def copy(recorded: tuple[Path, str], folder: Path) -> Path:
    return Path(shutil.copytree(recorded[0], folder, dirs_exist_ok=True))


def segment(folder: Path, stream: int, number: int) -> Path:
    return folder / f"stream-{stream:04d}-{number:08d}.safetensors"


def flip(path: Path, position: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def test_a_flipped_bit_is_found_or_has_no_effect(recorded: tuple[Path, str], tmp_path: Path) -> None:
    """In every array, in each part of a segment: full ones, the newest row, and rows that are not written yet."""
    layout, rng, found = SegmentLayout(SPECS, 256), np.random.default_rng(0), 0
    arrays = {key: (layout.offsets[key], layout.widths[key]) for key in SPECS} | {CHECKSUMS: (layout.checksums, 4)}
    for (key, (offset, width)), number in itertools.product(arrays.items(), (0, 1, 2)):
        for row in (0, 1, int(rng.integers(256)), 38, 39, 40, 255):
            copy(recorded, tmp_path)
            flip(segment(tmp_path, 1, number), offset + row * width + int(rng.integers(width)), int(rng.integers(8)))
            in_use = number < 2 or row < 40 + (key == CHECKSUMS)
            if in_use:
                with pytest.raises(ReplayError, match=r"stream-0001-.* is damaged: its row"):
                    everything(tmp_path)
                found += 1
            else:
                assert everything(tmp_path) == recorded[1], (key, number, row)
    assert found > 100


def test_training_never_gets_a_damaged_row(recorded: tuple[Path, str], tmp_path: Path) -> None:
    """Batches are those of the sound replay until one would hold the damaged row; then there is none."""
    copy(recorded, tmp_path)
    layout = SegmentLayout(SPECS, 256)
    flip(segment(tmp_path, 0, 1), layout.offsets["vector"] + 100 * layout.widths["vector"], 3)
    sound, damaged = open_replay(recorded[0]), open_replay(tmp_path)
    rngs, drawn = [np.random.default_rng(1) for _ in range(2)], 0
    with pytest.raises(ReplayError, match=r"stream-0000-00000001.safetensors is damaged: its row 100"):
        while drawn < 500:
            batches = [replay.sample(rng) for replay, rng in zip((sound, damaged), rngs, strict=True)]
            assert all((batches[0][key] == batches[1][key]).all() for key in SPECS)
            drawn += 1
    assert drawn > 0


@pytest.mark.parametrize("case", ["streams", "numbers", "another replay", "an earlier state"])
def test_rows_of_elsewhere_are_not_taken_for_those_of_here(
    recorded: tuple[Path, str], tmp_path: Path, case: str
) -> None:
    copy(recorded, folder := tmp_path / "replay")
    if case == "streams":
        shutil.copy(segment(folder, 0, 1), segment(folder, 1, 1))
    elif case == "numbers":
        shutil.copy(segment(folder, 0, 0), segment(folder, 0, 1))
    elif case == "another replay":
        fill(tmp_path / "other")
        shutil.copy(segment(tmp_path / "other", 0, 1), segment(folder, 0, 1))
    else:
        fill(tmp_path / "other", 256 + 100)  # of the same steps
        data = bytearray(segment(folder, 0, 1).read_bytes())
        layout = SegmentLayout(SPECS, 256)
        for start, width in [*((layout.offsets[k], layout.widths[k]) for k in SPECS), (layout.checksums + 4, 4)]:
            data[start + 100 * width : start + 256 * width] = bytes(156 * width)  # as before they were written
        segment(folder, 0, 1).write_bytes(data)
    with pytest.raises(ReplayError, match="is damaged: its row"):
        everything(folder)


def test_rows_that_were_written_anew_do_not_go_on_with_those_of_before(tmp_path: Path) -> None:
    """The rows after a position that was gone back to are still in the file, with their own checksums."""
    replay = open_replay(tmp_path, 1)
    replay.add(make_step(0, 1, is_first=True))
    position = replay.commit()
    for i in range(1, 10):
        replay.add(make_step(i, 1))
    replay.commit()
    replay.rewind(position)
    for i in range(101, 105):
        replay.add(make_step(i, 1))
    replay.close()
    content = loads_checksummed((tmp_path / "index.json").read_bytes(), None)
    assert everything(tmp_path)
    for commit in content["commits"]:
        commit["streams"][0]["stop"] = 10
    (tmp_path / "index.json").write_bytes(dumps_checksummed(content, None))
    with pytest.raises(ReplayError, match="row 5 does not have its checksum"):
        everything(tmp_path)


def test_a_mark_that_was_half_written_is_mended(tmp_path: Path) -> None:
    """The newest row is overwritten where an environment starts afresh; a power cut may leave the mark without its
    checksum, or the checksum without the mark."""
    for case in ("mark", "checksum", "other"):
        replay = open_replay(folder := tmp_path / case, 1)
        for i in range(12):
            replay.add(make_step(i, 1, is_first=i == 0))
        replay.close()
        layout = SegmentLayout(SPECS, 256)
        place = {"mark": layout.offsets["is_last"] + 11, "checksum": layout.checksums + 4 * 12}
        flip(segment(folder, 0, 0), place.get(case, layout.offsets["reward"] + 4 * 11), 0)
        replay = open_replay(folder, 1)
        if case == "other":
            with pytest.raises(ReplayError, match="row 11 does not have its checksum"):
                replay.add(make_step(12, 1, is_last=True))
            continue
        replay.add(make_step(12, 1, is_last=True))
        batch = replay.sample(np.random.default_rng(0))
        assert not batch["is_last"][:-1].any() and (np.diff(batch["reward"], axis=0) == 1).all()


def test_streams_that_end_early_keep_their_checksums(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, 2)
    for i in range(30):
        replay.add(make_step(i, 2, is_first=i % 7 == 0))  # episodes that others follow, without an end of their own
    replay.end_streams()
    replay.add(make_step(30, 2, is_first=True))
    replay.close()
    assert everything(tmp_path)


@pytest.mark.parametrize("sampling", ["episodes", "steps"])
def test_damaged_rows_are_given_up_and_never_drawn(recorded: tuple[Path, str], tmp_path: Path, sampling: str) -> None:
    """Within an episode, at a segment's border, a whole segment, the newest row; all others are still drawn."""
    copy(recorded, tmp_path)
    layout = SegmentLayout(SPECS, 256)
    for stream, number, row in ((0, 0, 30), (0, 0, 31), (0, 1, 0), (0, 2, 39)):
        flip(segment(tmp_path, stream, number), layout.offsets["vector"] + row * layout.widths["vector"], 3)
    segment(tmp_path, 1, 0).unlink()
    data = bytearray(segment(tmp_path, 1, 1).read_bytes())
    data[9] ^= 1
    segment(tmp_path, 1, 1).write_bytes(data)  # its header
    names = [segment(tmp_path, *place).name for place in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1))]
    assert [each.file for each in examine(tmp_path, SPECS).damage] == names
    assert repair(tmp_path, SPECS) == 4 + 256
    health = examine(tmp_path, SPECS)
    assert not health.damage and (health.given_up, health.steps) == (260, 2 * ROWS - 260)
    lost = {(0, row) for row in (30, 31, 256, 551)} | {(1, row) for row in range(256)}
    sound = {(stream, row) for stream in range(2) for row in range(ROWS)} - lost
    episodes = [{(stream, start + i) for i in range(20)} for stream in range(2) for start in range(0, ROWS - 19, 20)]
    whole = {row for episode in episodes if not episode & lost for row in episode}
    replay = Replay(tmp_path, SPECS, ReplayConfig(capacity=4096, batch_size=50, batch_length=8, sampling=sampling), 2)
    rng, drawn = np.random.default_rng(0), set()
    vectors = {make_step(i, 2)["vector"][s].tobytes(): (s, i) for i in range(ROWS) for s in range(2)}
    for _ in range(400):
        drawn |= {vectors[vector.tobytes()] for vector in replay.sample(rng)["vector"].reshape(-1, 3)}
    assert drawn == (sound if sampling == "steps" else whole)
    replay.add(make_step(ROWS, 2, is_first=True))
    replay.close()
    with ReplayReader(tmp_path, SPECS) as reader:
        assert reader.digest() and reader.longest < ROWS
        windows = reader.windows(rng, 8, 500)
        assert (np.diff(windows["reward"], axis=0) == 1).all()
        endings = reader.endings(rng, 8, 100)
        assert endings is not None and (np.diff(endings["reward"], axis=0) == 1).all()


def test_an_episode_that_lost_a_row_while_it_ran_is_not_drawn(tmp_path: Path) -> None:
    replay = open_replay(tmp_path, 1)
    for i in range(30):
        replay.add(make_step(i, 1, is_first=i in (0, 15), is_last=i == 14))
    position = replay.commit()
    replay.close()
    layout = SegmentLayout(SPECS, 256)
    flip(segment(tmp_path, 0, 0), layout.offsets["vector"] + 29 * layout.widths["vector"], 0)
    assert repair(tmp_path, SPECS, [position]) == 1
    replay = open_replay(tmp_path, 1)
    replay.check(position)
    replay.rewind(position)
    assert not list(replay.latest_episode(0, 5))
    for i in range(30, 40):
        replay.add(make_step(i, 1, is_last=i == 39))
    assert replay.num_episodes == 1
    for _ in range(50):
        assert replay.sample(np.random.default_rng(0))["reward"].max() < 15
    assert not examine(tmp_path, SPECS).damage


def test_a_replay_without_its_index_is_not_overwritten(recorded: tuple[Path, str], tmp_path: Path) -> None:
    copy(recorded, tmp_path)
    (tmp_path / "index.json").unlink()
    for opening in (open_replay, everything):
        with pytest.raises(ReplayError, match=r"index.json is missing, though there are steps beside it"):
            opening(tmp_path)
    assert segment(tmp_path, 0, 0).exists()


def test_a_replay_of_version_1_goes_on_without_checksums(tmp_path: Path) -> None:
    """As the first release wrote it: no identity, no checksums in positions and segments."""
    store = SegmentStore(tmp_path, SPECS, 256, identity=None)
    for i in range(20):
        row = {key: array[0].reshape(-1).view(np.uint8) for key, array in make_step(i, 1, is_first=i == 0).items()}
        assert store.write(0, i, row, 0) == 0
    store.close()
    stream = {"first": 0, "stop": 20, "open_since": 0}
    index = {
        "format": "reverie-replay",
        "version": 1,
        "steps": {key: {"shape": list(spec.shape), "dtype": spec.dtype} for key, spec in SPECS.items()},
        "segment_steps": 256,
        "commits": [{"episodes": 0, "evicted": 0, "streams": [stream]}],
        "first_episode": 0,
        "episodes": [],
    }
    (tmp_path / "index.json").write_text(json.dumps(index))
    replay = open_replay(tmp_path, 1)
    assert replay.rewind(index["commits"][0])
    replay.add(make_step(20, 1, is_last=True))
    replay.close()
    batch = open_replay(tmp_path, 1).sample(np.random.default_rng(0))
    assert (np.diff(batch["reward"], axis=0) == 1).all()
    assert segment(tmp_path, 0, 0).stat().st_size == SegmentLayout(SPECS, 256, checked=False).size
