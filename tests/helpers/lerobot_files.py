"""LeRobot data sets of version 3 with small contents, written with pyarrow and av alone."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FPS = 10
CAMERA, STILL = "observation.images.top", "observation.images.wrist"
GREY = 20
"""Difference in brightness between two frames, more than compression changes."""


def columns(lengths: list[int]) -> dict[str, list[Any]]:
    """Return the columns of the data: actions and states that count the frames, rewards at the last ones."""
    total, places = sum(lengths), [t for length in lengths for t in range(length)]
    return {
        "action": [[t / 10, -0.5] for t in places],
        "observation.state": [[float(index)] * 3 for index in range(total)],
        "next.reward": [float(t == length - 1) for length in lengths for t in range(length)],
        "next.success": [
            number == 0 and t == length - 1 for number, length in enumerate(lengths) for t in range(length)
        ],
        "timestamp": [t / FPS for t in places],
        "frame_index": places,
        "episode_index": [number for number, length in enumerate(lengths) for _ in range(length)],
        "index": [*range(total)],
        "task_index": [0] * total,
    }


def write_lerobot(folder: Path, lengths: list[int], **changed: Any) -> Path:
    """Write a data set with one file for all episodes; `changed` replaces columns, None leaves one out."""
    import av
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = {name: values for name, values in {**columns(lengths), **changed}.items() if values is not None}
    total = sum(lengths)
    cells = [{"bytes": _png(GREY * (index % 12)), "path": None} for index in range(total)]
    features: dict[str, Any] = {name: {"dtype": "float32", "shape": [1]} for name in data}
    features |= {CAMERA: {"dtype": "video", "shape": [48, 64, 3]}, STILL: {"dtype": "image", "shape": [32, 32, 3]}}
    info = {"codebase_version": "v3.0", "fps": FPS, "total_episodes": len(lengths), "features": features}
    starts = np.cumsum([0, *lengths])
    rows = [
        {
            "episode_index": number,
            "length": length,
            "data/chunk_index": 0,
            "data/file_index": 0,
            "dataset_from_index": int(starts[number]),
            "dataset_to_index": int(starts[number + 1]),
            f"videos/{CAMERA}/chunk_index": 0,
            f"videos/{CAMERA}/file_index": 0,
            f"videos/{CAMERA}/from_timestamp": float(starts[number] / FPS),
            f"videos/{CAMERA}/to_timestamp": float(starts[number + 1] / FPS),
        }
        for number, length in enumerate(lengths)
    ]
    for place in ("meta/episodes/chunk-000", "data/chunk-000", f"videos/{CAMERA}/chunk-000"):
        (folder / place).mkdir(parents=True)
    (folder / "meta/info.json").write_text(json.dumps(info))
    pq.write_table(pa.Table.from_pylist(rows), folder / "meta/episodes/chunk-000/file-000.parquet")
    pq.write_table(pa.table({**data, STILL: cells}), folder / "data/chunk-000/file-000.parquet")
    with av.open(str(folder / f"videos/{CAMERA}/chunk-000/file-000.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 4
        stream.options = {"sc_threshold": "1000000000"}  # no key frames but every fourth
        for index in range(total):
            frame = np.full((48, 64, 3), GREY * (index % 12), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return folder


def _png(grey: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (32, 32), (grey, 0, 0)).save(data, "PNG")
    return data.getvalue()
