"""Checkpoints: what is read is what was written, or an error that says so."""

import errno
import hashlib
import json
import math
import os
import random
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.errors import CheckpointError
from reverie.runs import checkpoint, checkpoints
from reverie.runs.atomic_io import to_json
from reverie.runs.checkpoint import Snapshot, read_checkpoint, verify_checkpoint, write_checkpoint
from reverie.runs.checkpoints import Checkpoints
from tests.helpers.untrusted_files import little_memory

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16]
DTYPES += [torch.int8, torch.uint8, torch.bool]


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk; test_order_of_flushes sees to it that we would."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def snapshot(seed: int) -> Snapshot:
    generator = torch.Generator().manual_seed(seed)
    weights = {"a.weight": torch.randn(5, 3, generator=generator), "a.bias": torch.randn((), generator=generator)}
    moments = {"a.weight/m": torch.randn(5, 3, generator=generator).double()}
    return Snapshot(
        {"agent": weights, "optimizers": moments, "generators": {"noise": generator.get_state()}},
        {"updates": seed, "generator": np.random.default_rng(seed).bit_generator.state, "note": "μ"},
    )


def raw(tensor: torch.Tensor) -> bytes:
    """Bits of a tensor; equal for equal NaNs, different for 0 and -0."""
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist())


def content(value: Snapshot) -> Any:
    groups = {
        stem: {name: (tensor.dtype, tuple(tensor.shape), raw(tensor)) for name, tensor in group.items()}
        for stem, group in value.tensors.items()
        if group
    }
    return groups, value.state


def assert_same(one: Snapshot, other: Snapshot) -> None:
    assert content(one) == content(other)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# What is read is what was written


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    size = math.prod(shape) * dtype.itemsize
    data = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8)
    if dtype == torch.bool:
        return torch.from_numpy(data % 2).bool().reshape(shape)
    if size == 0:
        return torch.zeros(shape, dtype=dtype)
    tensor = torch.from_numpy(data.copy()).view(dtype).reshape(shape)
    return tensor.permute(draw(st.permutations(range(len(shape))))) if shape else tensor


KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(
    groups=st.dictionaries(
        st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,9}", fullmatch=True),
        st.dictionaries(KEYS, tensors(), max_size=4),
        max_size=3,
    ),
    state=st.dictionaries(st.text(max_size=5), JSONS, max_size=4),
    step=st.integers(0, 10**12),
)
def test_round_trip_is_exact(groups: dict[str, dict[str, torch.Tensor]], state: dict[str, Any], step: int) -> None:
    written = Snapshot(groups, state)
    with tempfile.TemporaryDirectory() as directory:
        path = Checkpoints(Path(directory), 1).save(step, written)
        read_step, read = Checkpoints(Path(directory), 1).load()
        assert path.name == f"step-{step:09d}"
    assert read_step == step
    assert_same(read, written)


def test_views_and_shared_tensors(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(2, 3, 4)
    parameter = torch.nn.Parameter(base.clone())
    image = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    group = {"base": base, "same": base, "part": base[:, 1], "turned": base.mT, "row": base[0, 0, :1].expand(5)}
    group |= {"parameter": parameter, "image": image, "steps": base[..., ::2]}
    written = Snapshot({"agent": group}, {})
    Checkpoints(tmp_path, 1).save(3, written)
    _, read = Checkpoints(tmp_path, 1).load()
    assert_same(read, written)
    assert not any(tensor.requires_grad for tensor in read.tensors["agent"].values())
    assert len({tensor.data_ptr() for tensor in read.tensors["agent"].values()}) == len(group)


def test_what_was_read_does_not_change_with_the_file(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path, 1).save(1, snapshot(1))
    _, read = Checkpoints(tmp_path, 1).load()
    (path / "tensors.safetensors").write_bytes(b"\xff" * (path / "tensors.safetensors").stat().st_size)
    shutil.rmtree(path)
    assert_same(read, snapshot(1))


def test_equal_snapshots_give_equal_bytes(tmp_path: Path) -> None:
    one, other = (
        Checkpoints(tmp_path / "a", 1).save(1, snapshot(7)),
        Checkpoints(tmp_path / "b", 1).save(1, snapshot(7)),
    )
    assert names(one) == names(other)
    for name in names(one):
        assert (one / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_numpy_generators_continue_from_json(kind: str) -> None:
    generator, other = (np.random.Generator(getattr(np.random, kind)(seed)) for seed in (5, 6))
    generator.standard_normal(3)
    generator.integers(10, size=3, dtype=np.uint32)  # leaves half of a 64-bit word behind
    other.bit_generator.state = json.loads(to_json(generator.bit_generator.state))
    numbers, others = (each.integers(10, size=9, dtype=np.uint32) for each in (generator, other))
    np.testing.assert_array_equal(numbers, others)
    np.testing.assert_array_equal(generator.random(9), other.random(9))


# Which are kept


def test_keeps_the_last_and_the_best(tmp_path: Path) -> None:
    rng = random.Random(0)
    for keep in (1, 2, 3):
        directory = tmp_path / str(keep)
        store = Checkpoints(directory, keep)
        assert store.latest() is store.best() is None
        assert store.list() == ()
        written: list[tuple[int, float | None]] = []
        for i in range(25):
            step, score = 1000 * i, rng.choice([None, math.nan, 1.0, 2.0, 3.0, 4.0, rng.uniform(-9, 9)])
            store.save(step, snapshot(i), score)
            written.append((step, score))
            scored = [(score, step) for step, score in written if score is not None and not math.isnan(score)]
            expected = {step for step, _ in written[-keep:]} | ({max(scored)[1]} if scored else set())
            assert [path.name for path in store.list()] == [f"step-{step:09d}" for step in sorted(expected)]
            if scored:
                best = directory / "best"
                assert best.is_symlink()
                assert os.readlink(best) == f"step-{max(scored)[1]:09d}"
                assert read_checkpoint(best)[0] == max(scored)[1]
            assert names(directory) == sorted([p.name for p in store.list()] + (["best"] if scored else []))


def test_a_second_checkpoint_of_one_step_never_overwrites(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, 2)
    paths = [store.save(step, snapshot(i)) for i, step in enumerate((4, 5, 5, 5))]
    assert [path.name for path in paths[1:]] == ["step-000000005", "step-000000005-2", "step-000000005-3"]
    assert store.list() == (paths[0], paths[3])
    assert_same(store.load()[1], snapshot(3))


def test_best_survives_a_copy_that_follows_links(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path / "a", 1)
    store.save(1, snapshot(1), 5.0)
    store.save(2, snapshot(2), 4.0)
    shutil.copytree(tmp_path / "a", tmp_path / "b", symlinks=False)
    copy = Checkpoints(tmp_path / "b", 1)
    assert (tmp_path / "b" / "best").is_dir() and not (tmp_path / "b" / "best").is_symlink()
    copy.save(3, snapshot(3), 6.0)
    assert names(tmp_path / "b") == ["best", "step-000000003"]
    assert read_checkpoint(tmp_path / "b" / "best")[0] == 3


def test_a_reader_is_not_disturbed_by_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest checkpoint is replaced between the moments when a reader lists it and reads it."""
    store = Checkpoints(tmp_path, 1)
    store.save(1, snapshot(1))
    read = read_checkpoint

    def read_late(folder: Path, *arguments: Any) -> Any:
        if folder.name == "step-000000001":
            store.save(2, snapshot(2))
        return read(folder, *arguments)

    monkeypatch.setattr(checkpoints, "read_checkpoint", read_late)
    assert store.load()[0] == 2


# Killed at any moment


def run_and_die_at(operation: int, action: Callable[[], Any]) -> bool:
    """Run in a child process that dies without a word before its k-th file operation. True if it lived."""
    child = os.fork()
    if child == 0:
        status = 3
        try:
            count = 0

            def die(event: str) -> None:
                nonlocal count
                if event == "open" or event in (
                    "os.rename",
                    "os.remove",
                    "os.rmdir",
                    "os.mkdir",
                    "os.symlink",
                    "fsync",
                ):
                    if count == operation:
                        os._exit(9)
                    count += 1

            fsync = os.fsync
            os.fsync = lambda descriptor: (die("fsync"), fsync(descriptor))[1]
            sys.addaudithook(lambda event, _: die(event))
            action()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 0


def test_killed_between_any_two_operations(tmp_path: Path) -> None:
    def before(directory: Path) -> Checkpoints:
        store = Checkpoints(directory, 1)
        store.save(1, snapshot(1), 5.0)
        store.save(2, snapshot(2), 1.0)
        return store

    seen, lived, operation = set(), False, 0
    while not lived:
        directory = tmp_path / str(operation)
        store = before(directory)
        lived = run_and_die_at(operation, lambda store=store: store.save(3, snapshot(3), 6.0))
        operation += 1
        step, read = store.load()
        seen.add(step)
        assert step in (2, 3)
        assert_same(read, snapshot(step))
        assert not any(verify_checkpoint(path) for path in store.list())
        assert read_checkpoint(directory / "best")[0] in (1, 3)
        store.save(4, snapshot(4))
        assert not [name for name in names(directory) if name.startswith(".")]
    assert seen == {2, 3}
    assert operation > 25


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_failing_at_any_operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """A k-th operation that fails leaves the old or the new checkpoint, and no rubbish."""

    class Failing:
        def __init__(self, at: int) -> None:
            self.left = at

        def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                self.left -= 1
                if self.left == -1:
                    raise error
                return function(*args, **kwargs)

            return call

    failed, at = True, 0
    while failed:
        directory = tmp_path / str(at)
        store = Checkpoints(directory, 1)
        store.save(1, snapshot(1))
        failing = Failing(at)
        with monkeypatch.context() as patch:
            for name in ("fsync", "replace", "symlink"):
                patch.setattr(os, name, failing.wrap(getattr(os, name)))
            patch.setattr(checkpoint, "write_synced", failing.wrap(checkpoint.write_synced))
            failed = False
            try:
                store.save(2, snapshot(2), 1.0)
            except CheckpointError as caught:
                failed = True
                assert "No space left on device" in str(caught)
                assert "Free some space" in str(caught)
                assert "--resume" in str(caught)
            except KeyboardInterrupt:
                failed = True
        step, read = store.load()
        assert step in (1, 2)
        assert_same(read, snapshot(step))
        assert not any(verify_checkpoint(path) for path in store.list())
        if step == 1:
            assert names(directory) == ["step-000000001"]
        at += 1
    assert at > 8


def test_order_of_flushes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the rename: every file and the folder; after it, before anything is removed: the folder above."""
    store = Checkpoints(tmp_path, 1)
    old = store.save(1, snapshot(1))
    flushed: list[Path] = []
    renamed: list[tuple[Path, Path, list[Path]]] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        flushed.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def note_replace(source: Path, target: Path) -> None:
        renamed.append((Path(source), Path(target), list(flushed)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    new = store.save(2, snapshot(2))
    (temporary, target, before), (removed, _, later) = renamed
    assert (target, removed) == (new, old)
    assert {temporary / name for name in names(new)} | {temporary} == set(before)
    assert before[-1] == temporary
    assert tmp_path in later[len(before) :]
    flushed.clear()
    write_checkpoint(tmp_path / "agent", 1, snapshot(1))
    assert flushed[-2:] == [tmp_path / ".tmp-agent", tmp_path]


def test_a_full_disk(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, 1)
    store.save(1, snapshot(1))
    big = Snapshot({"agent": {"w": torch.zeros(100_000)}}, {})

    def save_with_limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            store.save(2, big)
        except CheckpointError as error:
            (tmp_path / "message").write_text(str(error))

    assert run_and_die_at(-1, save_with_limit)
    message = (tmp_path / "message").read_text()
    assert "File too large" in message
    assert "Earlier ones are intact. Free some space, then try again, a run with --resume" in message
    assert names(tmp_path) == ["message", "step-000000001"]
    assert_same(store.load()[1], snapshot(1))


def test_a_disk_that_gives_back_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Checkpoints(tmp_path, 1)
    store.save(1, snapshot(1))
    write = checkpoint.write_synced
    monkeypatch.setattr(checkpoint, "write_synced", lambda path, data: write(path, data.replace(b"note", b"mote")))
    with pytest.raises(CheckpointError, match=r"the disk returned other data, state\.json does not have its checksum"):
        store.save(2, snapshot(2))
    assert names(tmp_path) == ["step-000000001"]


# Damage


def damage(path: Path, rng: random.Random) -> str:
    """Harm one file of a checkpoint folder; says how."""
    file = rng.choice(sorted(path.iterdir()))
    data = bytearray(file.read_bytes())
    kind = rng.choice(["bit", "bit", "bit", "byte", "cut", "delete", "grow", "insert", "drop", "zeros", "folder"])
    place = rng.randrange(len(data))
    if kind == "bit":
        data[place] ^= 1 << rng.randrange(8)
    elif kind == "byte":
        data[place] = (data[place] + rng.randrange(1, 256)) % 256
    elif kind == "cut":
        del data[place:]
    elif kind == "grow":
        data += rng.randbytes(rng.randrange(1, 9))
    elif kind == "insert":
        data[place:place] = rng.randbytes(1)
    elif kind == "drop":
        del data[place]
    elif kind == "zeros":  # what a file system may leave after a power cut
        data[place:] = bytes(len(data) - place + 1)
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind != "delete":
        file.write_bytes(data)
    return f"{kind} at {place} of {file.name}"


def test_all_damage_is_detected_and_a_valid_one_named(tmp_path: Path) -> None:
    source = Checkpoints(tmp_path / "source", 3)
    source.save(10_000, snapshot(1))
    source.save(12_000, snapshot(2))
    rng = random.Random(0)
    for i in range(200):
        directory = tmp_path / f"run {i}" / "checkpoints"
        shutil.copytree(source.directory, directory)
        store = Checkpoints(directory, 3)
        how = damage(directory / "step-000012000", rng)
        with pytest.raises(CheckpointError) as caught:
            store.load()
        message = str(caught.value)
        assert str(directory / "step-000012000") in message, how
        assert how.split()[-1] in message, how
        repair = f"`reverie verify '{directory.parent}' --repair` puts it aside"
        assert f"{repair}, and --resume then continues from step-000010000" in message, how
        assert_same(read_checkpoint(directory / "step-000010000")[1], snapshot(1))
        damage(directory / "step-000010000", rng)
        with pytest.raises(CheckpointError, match="no other undamaged checkpoint"):
            store.load()
        shutil.rmtree(directory.parent)


def test_every_byte_of_the_manifest_counts(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path, 1).save(1, Snapshot({}, {})) / "manifest.json"
    data = path.read_bytes()
    for place in range(len(data)):
        for bit in (0, place % 7 + 1):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
            assert verify_checkpoint(path.parent), (place, bit)
    path.write_bytes(data)
    assert not verify_checkpoint(path.parent)


def test_swapped_files_and_folders_are_detected(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, 3)
    one, two = store.save(1, snapshot(1)), store.save(2, snapshot(2))
    for name in names(one):
        for source, target in ((one, two), (two, one)):
            kept = (target / name).read_bytes()
            (target / name).write_bytes((source / name).read_bytes())
            assert verify_checkpoint(target), name
            (target / name).write_bytes(kept)
    os.rename(one, tmp_path / "other")
    os.rename(two, one)
    with pytest.raises(CheckpointError, match="another than the folder's name says"):
        read_checkpoint(one)
    assert not verify_checkpoint(tmp_path / "other")  # a copy under a name of one's own is fine


def test_missing(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path / "checkpoints", 3)
    with pytest.raises(CheckpointError, match=r"no checkpoint in .*checkpoints: no folder there is named step-\*"):
        store.load()
    with pytest.raises(CheckpointError, match=r"There is no checkpoint at .*nowhere"):
        read_checkpoint(tmp_path / "nowhere")


# Untrusted files


def forge(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a manifest and give it a right checksum."""
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    manifest.pop("sha256", None)
    manifest["sha256"] = hashlib.sha256((json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")


def forge_file(path: Path, name: str, data: bytes) -> None:
    (path / name).write_bytes(data)
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    forge(path, lambda manifest: manifest["files"].update({name: entry}))


CHANGES: list[Callable[[dict[str, Any]], Any]] = [
    lambda m: m.update(step=-1),
    lambda m: m.update(step="1"),
    lambda m: m.update(step=None),
    lambda m: m.update(score="high"),
    lambda m: m.update(files=[]),
    lambda m: m.update(files={}),
    lambda m: m["files"].update({"state.json": None}),
    lambda m: m["files"]["state.json"].update(size=10**30),
    lambda m: m["files"]["state.json"].update(size="12"),
    lambda m: m["files"]["state.json"].update(sha256=None),
    lambda m: m["files"].update({"../secret.json": {"size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}}),
    lambda m: m["files"].pop("tensors.safetensors"),
    lambda m: m.pop("step"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_forged_manifests(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = Checkpoints(tmp_path, 1).save(1, snapshot(1))
    forge(path, lambda manifest: None)
    assert not verify_checkpoint(path)
    forge(path, change)
    with pytest.raises(CheckpointError, match=r"cannot be used: \w+\.json "):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "null", "{", "[" * 100_000, '{"format": ' + "9" * 5000 + "}", "\udcff"]
)
def test_hostile_json(tmp_path: Path, text: str) -> None:
    path = Checkpoints(tmp_path, 1).save(1, snapshot(1))
    forge_file(path, "state.json", text.encode(errors="surrogateescape"))
    if text != '{"format": ' + "9" * 5000 + "}" or sys.get_int_max_str_digits():
        with pytest.raises(CheckpointError, match=r"state\.json is not"):
            read_checkpoint(path)
    (path / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match=r"manifest\.json is not"):
        read_checkpoint(path)


def header(fields: dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(fields).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04K\x01.",  # a pickle
        header({}, length=2**62),
        header({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
        header({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, bytes(4)),
        header({"x": {"dtype": "F32", "shape": [2**33, 2**33], "data_offsets": [0, 4]}}, bytes(4)),
        header({"x": {"dtype": "O", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
        header({"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
        header({"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4)),
    ],
)
def test_hostile_tensors(tmp_path: Path, data: bytes) -> None:
    path = Checkpoints(tmp_path, 1).save(1, snapshot(1))
    forge_file(path, "tensors.safetensors", data)
    for check in (None, lambda state, shapes: None):
        with pytest.raises(CheckpointError, match=r"tensors\.safetensors is not a valid safetensors file"):
            read_checkpoint(path, check=check)


def test_read_checkpoint_check_sees_state_and_shapes_before_tensors_are_read(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path, 1).save(1, snapshot(1))
    huge = header({"agent/w": {"dtype": "F32", "shape": [2**33], "data_offsets": [0, 2**35]}})
    with (path / "tensors.safetensors").open("wb") as file:
        file.write(huge)
        file.truncate(len(huge) + 2**35)  # Sparse.
    entry = {"sha256": "0" * 64, "size": len(huge) + 2**35}
    forge(path, lambda manifest: manifest["files"].update({"tensors.safetensors": entry}))
    seen: list[Any] = []

    def check(state: Any, shapes: Any) -> None:
        seen.append((state["updates"], shapes["agent"]))
        raise CheckpointError("too large")

    with little_memory(), pytest.raises(CheckpointError, match="too large"):
        read_checkpoint(path, check=check)
    assert seen == [(1, {"w": (2**33,)})]
    with little_memory(), pytest.raises((CheckpointError, MemoryError)):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["manifest.json", "tensors.safetensors"])
def test_a_pipe_does_not_hang(tmp_path: Path, name: str) -> None:
    path = Checkpoints(tmp_path, 1).save(1, snapshot(1))
    (path / name).unlink()
    os.mkfifo(path / name)
    for check in (None, lambda state, shapes: None):
        with pytest.raises(CheckpointError, match=f"{name} is not a file"):
            read_checkpoint(path, check=check)


def test_a_huge_manifest_is_not_read(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path, 1).save(1, snapshot(1))
    os.truncate(path / "manifest.json", 2**40)  # sparse
    with pytest.raises(CheckpointError, match=r"manifest\.json is too large"):
        read_checkpoint(path)


def test_a_later_format_says_which_version_wrote_it(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path, 1).save(1, snapshot(1))
    forge(path, lambda manifest: manifest.update(format=3, package="7.8.9"))
    with pytest.raises(
        CheckpointError, match=r"format 3, written by reverie 7\.8\.9, while this version reads format 2"
    ):
        read_checkpoint(path)


def test_nothing_is_unpickled() -> None:
    source = "".join(path.read_text() for path in Path(checkpoints.__file__).parent.glob("**/*.py"))
    assert "import pickle" not in source
    assert "torch.load" not in source


# Single folders


def test_single_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "agent"
    for seed in (1, 2):  # the second time it replaces its own
        write_checkpoint(folder, 5, snapshot(seed))
        assert names(folder.parent) == ["agent"]
        assert_same(read_checkpoint(folder)[1], snapshot(seed))


def test_single_folder_leaves_other_files_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    for target in (tmp_path, tmp_path / "holiday.jpg"):
        with pytest.raises(CheckpointError, match="something other than a checkpoint"):
            write_checkpoint(target, 5, snapshot(1))
    with pytest.raises(CheckpointError, match="could not be written"):
        write_checkpoint(tmp_path / "holiday.jpg" / "agent", 5, snapshot(1))
    assert names(tmp_path) == ["holiday.jpg"]


def test_failed_replacement_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "agent"
    write_checkpoint(folder, 5, snapshot(1))
    replace, calls = os.replace, []

    def fail_once(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(CheckpointError, match=r"Input/output error.*Check the disk"):
        write_checkpoint(folder, 6, snapshot(2))
    assert names(tmp_path) == ["agent"]
    assert_same(read_checkpoint(folder)[1], snapshot(1))
