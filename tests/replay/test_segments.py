"""Segments are safetensors files, read by the library that defines the format."""

import errno
from pathlib import Path

import numpy as np
import pytest
from reverie.replay.segments import (
    CHECKSUMS,
    SAFETENSORS_DTYPES,
    SegmentLayout,
    SegmentStore,
    disk_errors,
    segment_steps,
)
from safetensors import safe_open
from safetensors.numpy import load_file

from reverie.errors import ReplayError
from reverie.specs import ArraySpec

SPECS = {dtype: ArraySpec((2, 3), dtype) for dtype in SAFETENSORS_DTYPES} | {
    "scalar": ArraySpec((), "float32"),
    "image": ArraySpec((4, 4, 3), "uint8"),
}
EMPTY = {
    key: np.zeros(np.dtype(spec.dtype).itemsize * spec.size, np.uint8) for key, spec in SPECS.items() if key != "scalar"
}
BYTE = {"x": ArraySpec((), "uint8")}


def write_numbers(store: SegmentStore, stream: int, count: int) -> None:
    checksum = 0
    for row in range(count):
        checksum = store.write(stream, row, {"x": np.array([row], np.uint8)}, checksum)
        store.flush()


def test_the_safetensors_library_reads_every_dtype(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path, SPECS, 256, identity=7)
    rng = np.random.default_rng(0)
    rows = {key: rng.integers(0, 2, (256, *spec.shape)).astype(spec.dtype) for key, spec in SPECS.items()}
    checksums = [0]
    for row in range(256):
        data = {key: np.ascontiguousarray(rows[key][row]).reshape(-1).view(np.uint8) for key in SPECS}
        checksums.append(store.write(0, row, data, checksums[-1]))
    store.close()
    loaded = load_file(tmp_path / "stream-0000-00000000.safetensors")
    assert loaded.pop(CHECKSUMS).tolist() == checksums
    assert loaded.keys() == SPECS.keys()
    for key, array in rows.items():
        assert loaded[key].dtype == SPECS[key].dtype
        np.testing.assert_array_equal(loaded[key], array)


def test_the_library_reads_a_segment_that_is_hardly_begun(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path, SPECS, 512, identity=7)
    store.write(3, 512, {"scalar": np.array([2.5], np.float32).view(np.uint8), **EMPTY}, 0)
    store.close()
    with safe_open(tmp_path / "stream-0003-00000001.safetensors", "np") as file:
        assert file.get_slice("image").get_shape() == [512, 4, 4, 3]
        assert file.get_tensor("scalar")[:2].tolist() == [2.5, 0.0]


def test_data_begin_at_a_page_and_arrays_at_their_item_size() -> None:
    layout = SegmentLayout(SPECS, 256)
    assert layout.offsets["int64"] % 8 == 0
    assert min(layout.offsets.values()) % 4096 == 0
    assert all(layout.offsets[key] % np.dtype(spec.dtype).itemsize == 0 for key, spec in SPECS.items())


def test_reads_cross_segments(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path, BYTE, 4, identity=7)
    write_numbers(store, 0, 15)
    out = np.empty((11, 1), np.uint8)
    store.read(0, 3, {"x": out})
    assert out[:, 0].tolist() == list(range(3, 14))
    store.close()


def test_only_segments_without_rows_are_deleted(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path, BYTE, 4, identity=7)
    for stream in (1, 2):
        write_numbers(store, stream, 20)
    store.keep_only(1, 7, 12)
    assert sorted(path.name[:21] for path in tmp_path.glob("stream-0001*")) == [
        "stream-0001-00000001.",
        "stream-0001-00000002.",
    ]
    assert len(list(tmp_path.glob("stream-0002*"))) == 5
    store.keep_only(2, 0, 0)
    assert not list(tmp_path.glob("stream-0002*"))
    store.close()


def test_few_files_stay_open(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path, BYTE, 1, identity=7)
    write_numbers(store, 0, 200)
    out = np.empty((200, 1), np.uint8)
    store.read(0, 0, {"x": out})
    assert out[:, 0].tolist() == list(range(200))
    assert len(store._readers) <= 128
    store.close()


@pytest.mark.parametrize(
    ("capacity", "streams", "steps"), [(2_000_000, 1, 16384), (2_000_000, 64, 1024), (100, 1, 256), (50_000, 8, 256)]
)
def test_segments_suit_the_capacity(capacity: int, streams: int, steps: int) -> None:
    assert segment_steps(capacity, streams) == steps


def test_errors_of_the_disk_are_one_sentence(tmp_path: Path) -> None:
    full = r"The disk is full: .* free some space or lower replay.capacity"
    with pytest.raises(ReplayError, match=full), disk_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ReplayError, match="cannot be read or written"), disk_errors(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")
