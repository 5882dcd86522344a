"""Checks of untrusted HDF5 files, whose links can lead to any other file."""

from collections.abc import Iterable
from typing import Any

from reverie.data.episodes import optional_import
from reverie.runs.atomic_io import Unreadable

_MAX_DEPTH = 8


def check_links(group: Any, names: Iterable[str] | None = None, depth: int = 0) -> int:
    """Return the bytes of the arrays in a group, or only of those with these names.

    Raises:
        Unreadable: at soft and external links, virtual arrays, and arrays whose bytes are in another file.
    """
    with optional_import():
        import h5py
    num_bytes = 0
    for name in group if names is None else names:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink) or depth > _MAX_DEPTH:
            raise Unreadable(f"has the link {name[:40]!r} to another place, which is not followed")
        entry = group[name]
        if not isinstance(entry, h5py.Dataset):
            num_bytes += check_links(entry, depth=depth + 1)
        elif entry.is_virtual or entry.external:
            raise Unreadable(f"has '{name[:40]}' in another file, which is not read")
        else:
            num_bytes += entry.size * entry.dtype.itemsize
    return num_bytes
