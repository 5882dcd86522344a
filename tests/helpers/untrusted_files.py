"""Untrusted files: unexpected JSON in place of the expected one, with valid checksums."""

import copy
import hashlib
import json
import os
import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from reverie.runs.atomic_io import dumps_checksummed

(CHECKSUM,) = json.loads(dumps_checksummed({}))
EXAMPLES = int(os.environ.get("HOSTILE_INPUTS", "100"))
"""How many files each test makes up; `benchmarks/hostile.py` asks for more."""
HOSTILE = settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
NUMBERS = st.sampled_from(
    [-(1 << 70), -(1 << 63), -1, 0, 1, 2, 3, 40, 255, 257, 100_000, 1 << 31, 1 << 40, 1 << 62, 1 << 63, 1 << 80]
)
WORDS = st.one_of(st.text(max_size=5), st.sampled_from(["", "..", "../../x", "/etc/passwd", "float64", "nan", "\x00"]))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.floats(), WORDS)
VALUES = st.recursive(
    SCALARS,
    lambda part: st.one_of(st.lists(part, max_size=3), st.dictionaries(st.text(max_size=5), part, max_size=3)),
    max_leaves=5,
)


@contextmanager
def little_memory(more: int = 1 << 30) -> Iterator[None]:
    """A gigabyte more than now: what takes more than its files' size, by much, fails here."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value, itself first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [place for key, part in inner for place in places(part, (*path, key))]


def replaced(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value in one place."""
    if not path:
        return value
    content = copy.deepcopy(content)
    part = content
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return content


@st.composite
def spoiled(draw: st.DrawFn, content: Any, times: int = 3) -> Any:
    """JSON in which up to so many values are others, or gone."""
    for _ in range(draw(st.integers(1, times))):
        path = draw(st.sampled_from(places(content)))
        if path and draw(st.integers(0, 4)) == 0:
            content = copy.deepcopy(content)
            part = content
            for key in path[:-1]:
                part = part[key]
            del part[path[-1]]
        else:
            content = replaced(content, path, draw(VALUES))
    return content


def split_safetensors(data: bytes) -> tuple[Any, bytes]:
    """Header and data."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


@st.composite
def spoiled_safetensors(draw: st.DrawFn, data: bytes, prefix: str = "") -> bytes:
    """With another header for names that begin so, another length of it, other data, or no safetensors file at all."""
    header, rest = split_safetensors(data)
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return draw(st.binary(max_size=100))
    if kind == 1:
        length = draw(st.sampled_from([0, 1, 8, len(data), len(data) - 8, 1 << 31, 1 << 62, (1 << 64) - 1]))
        return struct.pack("<Q", length) + data[8:]
    if kind == 2:
        return data[: draw(st.integers(0, len(data)))]
    spoilt = draw(spoiled({name: entry for name, entry in header.items() if name.startswith(prefix)}))
    if isinstance(spoilt, dict):
        spoilt = {**{name: entry for name, entry in header.items() if not name.startswith(prefix)}, **spoilt}
    text = json.dumps(spoilt).encode()
    return struct.pack("<Q", len(text)) + text + rest


def put(checkpoint: Path, name: str, data: bytes) -> None:
    """Replace a file of a checkpoint, with its size and checksum in the manifest."""
    (checkpoint / name).write_bytes(data)
    manifest = json.loads((checkpoint / "manifest.json").read_bytes())
    del manifest[CHECKSUM]
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (checkpoint / "manifest.json").write_bytes(dumps_checksummed(manifest))
