"""What a disk may hold after a power cut, by a record of what a process wrote (`disk_log.c`).

A file holds everything that was written before it was last synced. Each later write is there as a whole, in some of its
sectors, or not at all, whatever became of the ones before. A folder holds the names that it had when it was last
synced. Later changes of names in it are there up to some moment, in order; another folder has another moment.
"""

import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

SECTOR = 512


class Operation(NamedTuple):
    """A call that changed something, or synced it."""

    kind: str
    inode: int
    offset: int
    path: str
    other: str
    """New name of a rename or link, target of a symbolic link."""
    data: bytes


class Write(NamedTuple):
    """A change of a file's content that was not synced; without data, of its size."""

    offset: int
    data: bytes | None


@dataclass
class File:
    """A regular file."""

    synced: bytearray = field(default_factory=bytearray)
    unsynced: list[Write] = field(default_factory=list)

    def sync(self) -> None:
        """Force all writes onto the disk."""
        for write in self.unsynced:
            _apply(self.synced, write)
        self.unsynced.clear()

    def content(self, rng: random.Random | None) -> bytes:
        """Return what may be on the disk; without `rng`, what a reader sees before the power cut."""
        found, later = bytearray(self.synced), self.unsynced
        if rng is None:
            kept: list[Write] = list(later)
        else:
            match rng.choice(("none", "all", "first", "some")):
                case "none":
                    kept = []
                case "all":
                    kept = list(later)
                case "first":
                    kept = later[: rng.randint(0, len(later))]
                    kept[-1:] = [part for write in kept[-1:] for part in _torn(write, rng)]
                case _:
                    kept = [part for write in later if rng.random() < 0.5 for part in _torn(write, rng)]
        for write in kept:
            _apply(found, write)
        return bytes(found)


@dataclass
class Folder:
    """A folder; `names` are what a process sees."""

    names: "dict[str, Node]" = field(default_factory=dict)
    synced: "dict[str, Node]" = field(default_factory=dict)
    unsynced: "list[dict[str, Node | None]]" = field(default_factory=list)
    """Changes in order: new entries by name, None where one went."""

    def change(self, **entries: "Node | None") -> None:
        """Change one name, or two at once."""
        _rename(self.names, entries)
        self.unsynced.append(entries)

    def sync(self) -> None:
        """Force all names onto the disk."""
        self.synced, self.unsynced = dict(self.names), []

    def entries(self, rng: random.Random | None) -> "dict[str, Node]":
        """Return the names that may be on the disk."""
        found = dict(self.synced)
        changes = self.unsynced
        if rng is not None:
            changes = changes[: rng.choice((0, len(changes), rng.randint(0, len(changes))))]
        for entries in changes:
            _rename(found, entries)
        return found


Node = File | Folder | str
"""A string is the target of a symbolic link."""


class SimulatedDisk:
    """A folder, as operations in it leave it.

    Args:
        root: its path in the record.
        inode: its inode.
    """

    def __init__(self, root: Path, inode: int) -> None:
        self.root = Folder()
        self._path = root
        self._inodes: dict[int, File | Folder] = {inode: self.root}

    def apply(self, operation: Operation) -> None:
        """Carry out one operation."""
        kind, inode, offset, path, other, data = operation
        if kind in ("write", "truncate", "sync"):
            node = self._inodes[inode]
            if kind == "sync":
                node.sync()
            else:
                assert isinstance(node, File)
                node.unsynced.append(Write(offset, data if kind == "write" else None))
            return
        folder, name = self._find(path)
        match kind:
            case "create" | "mkdir":
                node = self._inodes[inode] = File() if kind == "create" else Folder()
                folder.change(**{name: node})
            case "unlink":
                folder.change(**{name: None})
            case "symlink":
                folder.change(**{name: other})
            case "rename" | "link":
                target, new = self._find(other)
                assert target is folder, f"{path} was moved to another folder"
                moved = folder.names[name]
                folder.change(**({name: None} if kind == "rename" else {}), **{new: moved})
            case _:
                raise ValueError(kind)

    def materialise(self, target: Path, rng: random.Random | None = None) -> None:
        """Write the folder to another place, as the disk may hold it; without `rng`, as a process sees it."""
        _write(self.root, target, rng)

    def _find(self, path: str) -> tuple[Folder, str]:
        *folders, name = PurePosixPath(os.path.normpath(path)).relative_to(self._path).parts
        folder = self.root
        for part in folders:
            inner = folder.names[part]
            assert isinstance(inner, Folder)
            folder = inner
        return folder, name


def build_recorder(folder: Path) -> Path:
    """Compile the library to be loaded with LD_PRELOAD."""
    library, source = folder / "disk_log.so", Path(__file__).with_name("disk_log.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-lpthread"], check=True)
    return library


def read_log(path: Path) -> Iterator[Operation]:
    """Yield the recorded operations in order."""
    with path.open("rb") as file:
        while line := file.readline():
            kind, inode, offset, size, first, other = line.decode().rstrip("\n").split("\t")
            yield Operation(kind, int(inode), int(offset), first, other, file.read(int(size)))


def _apply(content: bytearray, write: Write) -> None:
    offset, data = write
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    if data is None:
        del content[offset:]
    else:
        content[offset : offset + len(data)] = data


def _torn(write: Write, rng: random.Random) -> list[Write]:
    """Return the parts of a write that are there: all of it, or some of its sectors."""
    if write.data is None or rng.random() < 0.5:
        return [write]
    first = write.offset - write.offset % SECTOR
    sectors = range(first, write.offset + len(write.data), SECTOR)
    parts = []
    for sector in sectors:
        start, stop = max(sector, write.offset), min(sector + SECTOR, write.offset + len(write.data))
        if rng.random() < 0.5:
            parts.append(Write(start, write.data[start - write.offset : stop - write.offset]))
    return parts


def _rename(names: dict[str, Node], entries: dict[str, Node | None]) -> None:
    for name, node in entries.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _write(node: Node, path: Path, rng: random.Random | None) -> None:
    if isinstance(node, Folder):
        path.mkdir()
        for name, inner in node.entries(rng).items():
            _write(inner, path / name, rng)
    elif isinstance(node, File):
        path.write_bytes(node.content(rng))
    else:
        path.symlink_to(node)
