"""An agent's weights in pieces that are small enough to be carried, and an agent from the pieces.

    python benchmarks/gpu/weights.py split CHECKPOINT OUT
    python benchmarks/gpu/weights.py join OUT FOLDER

The pieces hold the weights in half precision and nothing of the optimizers: the agent acts and dreams as before, and
training on would begin with new moments.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

INDEX = "weights.json"
PIECE = 16_000_000
"""Bytes."""


def split(checkpoint: Path, out: Path, piece: int = PIECE) -> dict[str, Any]:
    """Write `weights.json` and `weights.NN`; returns how many and how large they are."""
    from reverie.runs.checkpoint import read_checkpoint

    _, stored = read_checkpoint(checkpoint)
    data = halved(stored.tensors["weights"])
    parts = [data[start : start + piece] for start in range(0, len(data), piece)]
    for old in out.glob("weights.[0-9][0-9]"):
        old.unlink()
    for number, part in enumerate(parts):
        (out / f"weights.{number:02d}").write_bytes(part)
    index = {name: stored.state[name] for name in ("config", "spec", "updates", "agent_steps")}
    index |= {"sha256": sha256(data), "pieces": [sha256(part) for part in parts]}
    (out / INDEX).write_text(json.dumps(index))
    return {"pieces": len(parts), "bytes": len(data), "agent_steps": stored.state["agent_steps"]}


def halved(weights: dict[str, Any]) -> bytes:
    """The same weights in half precision; whole numbers stay as they are."""
    from safetensors.torch import save

    return save({name: value.half() if value.is_floating_point() else value for name, value in weights.items()})


def join(out: Path, folder: Path) -> None:
    """Write an agent's folder; ends with a message if a piece is missing or damaged."""
    from safetensors.torch import load

    from reverie import Dreamer, save
    from reverie.config import from_dict
    from reverie.envs.space_json import spec_from_json

    index = json.loads((out / INDEX).read_text())
    parts = []
    for number, checksum in enumerate(index["pieces"]):
        path = out / f"weights.{number:02d}"
        if not path.is_file() or sha256(path.read_bytes()) != checksum:
            sys.exit(f"{path} is missing or damaged: it does not have its checksum.")
        parts.append(path.read_bytes())
    data = b"".join(parts)
    if sha256(data) != index["sha256"]:
        sys.exit(f"The pieces in {out} do not belong together: the whole does not have its checksum.")
    agent = Dreamer(from_dict(index["config"]), spec_from_json(index["spec"]))
    agent.load_state_dict({name: value.float() for name, value in load(data).items()})
    agent.updates, agent.agent_steps = index["updates"], index["agent_steps"]
    save(agent, folder)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("split", "join"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    if options.what == "split":
        options.target.mkdir(parents=True, exist_ok=True)
        print(json.dumps(split(options.source, options.target)))
    else:
        join(options.source, options.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
