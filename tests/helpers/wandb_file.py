"""Reader of the files that W&B writes offline."""

import json
import struct
from pathlib import Path
from typing import Any

BLOCK = 32 * 1024
HEADER = 7
"""Bytes before the first record, and before each piece of one."""


def read_records(path: Path) -> list[Any]:
    """Return the records of a `.wandb` file: LevelDB's log format, with protocol buffers in it."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, records, pending = path.read_bytes(), [], b""
    position = HEADER
    while position + HEADER <= len(data):
        if BLOCK - position % BLOCK < HEADER:
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        pending += data[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            record = Record()
            record.ParseFromString(pending)
            records.append(record)
            pending = b""
    return records


def read_history(run_dir: Path) -> list[dict[str, Any]]:
    """Return the rows that were logged to the offline runs of a run folder, in order."""
    rows = []
    for path in sorted(run_dir.glob("wandb/offline-run-*/*.wandb")):
        for record in read_records(path):
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                # A picture has several items: its name, and below that its file, size and so on.
                rows.append({item.nested_key[0]: json.loads(item.value_json) for item in items})
    return rows
