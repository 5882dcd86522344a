"""Loops in C, compiled on first use with the machine's own compiler.

Compiling takes a second or two and happens once for each version of the files, compiler and processor; the result is
kept in the user's cache folder.
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
from collections.abc import Sequence
from pathlib import Path

OPTIONS = "-O3 -march=native -fno-math-errno -fno-trapping-math -fPIC -std=c11"
if platform.machine() == "x86_64":
    OPTIONS += " -mprefer-vector-width=512"


def load_library(sources: Sequence[Path], options: str = "", loss: str = "") -> ctypes.CDLL | None:
    """Compile files to one library, unless that has been done, and load it.

    Args:
        sources: the C files; the first one gives the library its name.
        options: of the compiler, beside `OPTIONS`. They are not given to the linker.
        loss: what it costs to go on without, for the warning where compiling fails; there is none if empty.

    Returns:
        None where it cannot be compiled, or this is switched off (REVERIE_KERNELS=0).
    """
    if os.environ.get("REVERIE_KERNELS") == "0" or platform.system() != "Linux":
        return None
    try:
        return ctypes.CDLL(str(_build(sources, f"{OPTIONS} {options}")))
    except (OSError, subprocess.SubprocessError) as error:
        if loss:
            warnings.warn(
                f"reverie's loops for the CPU could not be compiled ({error}), so that {loss}; "
                "install a C compiler (gcc), or set REVERIE_KERNELS=0 to go on without this warning.",
                stacklevel=3,
            )
        return None


def _build(sources: Sequence[Path], options: str) -> Path:
    compiler = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or shutil.which("gcc") or "cc"]
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=True, timeout=20).stdout
    texts = b"".join(source.read_bytes() for source in sources)
    key = hashlib.sha256(texts + version + options.encode() + _processor()).hexdigest()[:16]
    library = cache_folder() / f"{sources[0].stem}-{key}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            linked = Path(folder, "linked.so")
            run = functools.partial(subprocess.run, capture_output=True, check=True, timeout=120, cwd=folder)
            run([*compiler, *options.split(), "-c", *map(str, sources)])
            # Linked without OpenMP: PyTorch has loaded one already, and two would not share the processor's cores.
            run([*compiler, "-shared", *(f"{source.stem}.o" for source in sources), "-o", str(linked), "-lm"])
            linked.replace(library)
    return library


def cache_folder() -> Path:
    """Where reverie keeps what belongs to this user and machine, and can be made again.

    Raises:
        OSError: if the user has no home folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reverie"
    except RuntimeError as error:
        raise OSError(f"{error} Set HOME or XDG_CACHE_HOME.") from None


def _processor() -> bytes:
    lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})).encode()
