"""Compilation of the C sources at the first use, with the machine's own compiler.

It takes a second or two, once for each version of the sources, compiler and processor. The library is stored in the
user's cache folder.
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
from collections.abc import Sequence
from pathlib import Path

OPTIONS = "-O3 -march=native -fno-math-errno -fno-trapping-math -fPIC -std=c11 -fopenmp"
if platform.machine() == "x86_64":
    OPTIONS += " -mprefer-vector-width=512"


def compile_library(sources: Sequence[Path]) -> ctypes.CDLL:
    """Compile C files to one library, unless it is in the cache, and load it.

    Raises:
        OSError: if there is no compiler, or the cache folder cannot be written.
        subprocess.SubprocessError: if the compiler fails.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or shutil.which("gcc") or "cc"]
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=True, timeout=20).stdout
    texts = b"".join(source.read_bytes() for source in sources)
    key = hashlib.sha256(texts + version + OPTIONS.encode() + _processor()).hexdigest()[:16]
    library = cache_folder() / f"{sources[0].stem}-{key}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            linked = Path(folder, "linked.so")
            run = functools.partial(subprocess.run, capture_output=True, check=True, timeout=120, cwd=folder)
            run([*compiler, *OPTIONS.split(), "-c", *map(str, sources)])
            # Linked without OpenMP: PyTorch has loaded one, and two would not share the processor's cores.
            run([*compiler, "-shared", *(f"{source.stem}.o" for source in sources), "-o", str(linked), "-lm"])
            linked.replace(library)
    return ctypes.CDLL(str(library))


def cache_folder() -> Path:
    """Return the folder of files that belong to this user and machine and can be created again.

    Raises:
        OSError: if the user has no home folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "reverie"
    except RuntimeError as error:
        raise OSError(f"{error} Set HOME or XDG_CACHE_HOME.") from None


def _processor() -> bytes:
    lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})).encode()
