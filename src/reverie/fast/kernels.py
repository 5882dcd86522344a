"""The loops of `kernels.c` and `convolutions.c`: compiled on first use with the machine's own C compiler.

Compiling takes a second or two and happens once for each version of the files, compiler and processor; the result is
kept in the user's cache folder. Where it cannot be done, `load` gives None, and everything runs on PyTorch alone.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor

SOURCES = [Path(__file__).with_name(name) for name in ("kernels.c", "convolutions.c")]
COMPILE = "-O3 -march=native -fno-math-errno -fno-trapping-math -fopenmp -fPIC -std=c11"
if platform.machine() == "x86_64":
    COMPILE += " -mprefer-vector-width=512"
SUFFIXES = {torch.float32: "f32", torch.bfloat16: "bf16"}


class Kernels:
    """The compiled library; a method is found by the kernel's name and the dtype of its activations."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def __call__(self, name: str, dtype: torch.dtype, *arguments: Tensor | int | None) -> None:
        """Call a kernel: tensors are given by their address, numbers as 64-bit integers."""
        values = [
            ctypes.c_void_p(value.data_ptr())
            if isinstance(value, Tensor)
            else ctypes.c_void_p()
            if value is None
            else ctypes.c_int64(value)
            for value in arguments
        ]
        getattr(self._library, f"{name}_{SUFFIXES[dtype]}")(*values)

    def has(self, name: str, dtype: torch.dtype) -> bool:
        """Whether there is such a kernel for this processor."""
        return hasattr(self._library, f"{name}_{SUFFIXES[dtype]}")


@functools.cache
def load() -> Kernels | None:
    """The kernels, or None where they are switched off (REVERIE_KERNELS=0) or cannot be compiled here."""
    if os.environ.get("REVERIE_KERNELS") == "0" or platform.system() != "Linux":
        return None
    try:
        return Kernels(ctypes.CDLL(str(_build())))
    except (OSError, subprocess.SubprocessError) as error:
        warnings.warn(
            f"reverie's loops for the CPU could not be compiled ({error}), so that updates take about twice as long; "
            "install a C compiler (gcc), or set REVERIE_KERNELS=0 to go on without this warning.",
            stacklevel=2,
        )
        return None


def _build() -> Path:
    compiler = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or shutil.which("gcc") or "cc"]
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=True, timeout=20).stdout
    sources = b"".join(source.read_bytes() for source in SOURCES)
    key = hashlib.sha256(sources + version + COMPILE.encode() + _processor()).hexdigest()[:16]
    library = cache_folder() / f"kernels-{key}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            linked = Path(folder, "kernels.so")
            run = functools.partial(subprocess.run, capture_output=True, check=True, timeout=120, cwd=folder)
            run([*compiler, *COMPILE.split(), "-c", *map(str, SOURCES)])
            # Linked without OpenMP: PyTorch has loaded one already, and two would not share the processor's cores.
            run([*compiler, "-shared", *(f"{source.stem}.o" for source in SOURCES), "-o", str(linked), "-lm"])
            linked.replace(library)
    return library


def cache_folder() -> Path:
    """Where reverie keeps what belongs to this user and machine, and can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reverie"


def _processor() -> bytes:
    lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})).encode()
