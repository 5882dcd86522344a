"""What one update does on the device: kernels, gaps between them, memory; one JSON line for each way to run it.

Tables of the most expensive kernels and a trace (for chrome://tracing or https://ui.perfetto.dev) go to `--out`.
"""

import argparse
import gzip
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from paths import batches, fast, kernels_of, plain
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from reverie.acting import to_tensors
from reverie.config import Config, preset
from reverie.dreamer import Dreamer

WARM_UP = 8
ROUNDS = 20
MIB = 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    base = preset("debug" if options.tiny else "atari").override(device=options.device, precision="bf16")
    cases: list[tuple[str, Config, Callable[[Config], Dreamer]]] = [
        ("default", base, fast),
        ("graph only", base.override(compile="off"), fast),
        ("no graph", base.override(compile="off", cuda_graphs=False), fast),
        ("plain", base, plain),
        ("default, 50 x 50", base.override(**{"replay.batch_size": 50}), fast),
    ]
    for name, config, build in cases[:1] if options.tiny else cases:
        try:
            row = measure(name, config, build, options.out, options.tiny)
        except Exception as error:
            row = {"error": f"{type(error).__name__}: {error}"[:800]}
        print(json.dumps({"variant": name, **row}), flush=True)
    return 0


def measure(name: str, config: Config, build: Callable[[Config], Dreamer], out: Path, tiny: bool) -> dict[str, Any]:
    """Return the seconds, the memory and the profile of an update."""
    cuda = config.training.device == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    agent = build(config)
    batch = to_tensors(batches(config, 1)[0], agent.device)
    for _ in range(2 if tiny else WARM_UP):
        agent.train_step(batch)
    wait(cuda)
    row: dict[str, Any] = {"first_updates_seconds": round(time.perf_counter() - started, 2)}
    row |= {"kernel_classes": kernels_of(agent), "batch": config.replay.batch_size}
    started = time.perf_counter()
    rounds = 2 if tiny else ROUNDS
    for _ in range(rounds):  # without synchronising in between, as in training
        agent.train_step(batch)
    queued = time.perf_counter() - started
    wait(cuda)
    row |= {"seconds": (time.perf_counter() - started) / rounds, "host_seconds": queued / rounds}
    if cuda:
        row["allocated_mib"] = round(torch.cuda.max_memory_allocated() / MIB)
        row["reserved_mib"] = round(torch.cuda.max_memory_reserved() / MIB)
        free, total = torch.cuda.mem_get_info()
        row["device_used_mib"] = round((total - free) / MIB)
    return row | trace(name, agent, batch, out, cuda)


def trace(name: str, agent: Dreamer, batch: dict[str, torch.Tensor], out: Path, cuda: bool) -> dict[str, Any]:
    """Profile one update."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as profiled:
        agent.train_step(batch)
        wait(cuda)
    stem = "profile-" + name.replace(", ", "-").replace(" ", "-")
    order = "self_cuda_time_total" if cuda else "self_cpu_time_total"
    table = profiled.key_averages().table(sort_by=order, row_limit=40, max_name_column_width=80)
    (out / f"{stem}.txt").write_text(table)
    plain = out / f"{stem}.trace.json"
    profiled.export_chrome_trace(str(plain))
    (out / f"{stem}.trace.json.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    device = DeviceType.CUDA if cuda else DeviceType.CPU
    events = sorted((e for e in profiled.events() if e.device_type == device), key=lambda e: e.time_range.start)
    return kernels(events)


def kernels(events: list[Any]) -> dict[str, Any]:
    """Number, time, gaps, and the names that take the most time; on a CPU the same of operators."""
    if not events:
        return {"kernels": 0}
    spans = [(event.time_range.start, event.time_range.end) for event in events]
    busy, idle, end = 0.0, [], spans[0][0]
    for start, stop in spans:
        if start > end:
            idle.append(start - end)
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    by_name: dict[str, list[float]] = {}
    for event, (start, stop) in zip(events, spans, strict=True):
        by_name.setdefault(event.name[:80], []).append(stop - start)
    largest = sorted(by_name.items(), key=lambda entry: -sum(entry[1]))[:12]
    return {
        "kernels": len(events),
        "busy_us": round(busy),
        "idle_us": round(sum(idle)),
        "median_gap_us": round(median(idle), 2) if idle else 0,
        "median_kernel_us": round(median(stop - start for start, stop in spans), 2),
        "largest": [[name, len(times), round(sum(times))] for name, times in largest],
    }


def wait(cuda: bool) -> None:
    if cuda:
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
