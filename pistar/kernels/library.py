"""The compiled kernels: built at first use, cached, checked, loaded.

The cache's key is a digest of the source, the flags, the compiler and the processor's features, so that neither a new
version nor another machine with the same home directory meets a library that was made for something else. That digest
is `identity()`, which a run notes: its bits depend on it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SOURCE = Path(__file__).parent / "source"
FLAGS = (
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-shared",
    "-pthread",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
)
COMPILERS = ("c++", "g++", "clang++")
PATIENCE = 300.0  # seconds; a compiler may build its standard library first
log = logging.getLogger("pistar")

Pointer, Long, Float = ctypes.c_void_p, ctypes.c_long, ctypes.c_float


class Minibatch(ctypes.Structure):
    """As ``network.hpp`` has it."""

    _fields_ = (
        ("rows", Long),
        ("observation", Pointer),
        ("action", Pointer),
        ("log_prob", Pointer),
        ("advantage", Pointer),
        ("target", Pointer),
        ("weight", Pointer),
    )


class Loss(ctypes.Structure):
    """As ``network.hpp`` has it."""

    _fields_ = (
        ("surrogate", ctypes.c_int),
        ("standardize", ctypes.c_int),
        ("threads", ctypes.c_int),
        ("clip", Float),
        ("entropy_weight", Float),
        ("value_weight", Float),
    )


class Metrics(ctypes.Structure):
    """As ``network.hpp`` has it."""

    _fields_ = tuple(
        (name, ctypes.c_double) for name in ("loss", "surrogate", "entropy", "value_error", "kl", "clip_fraction")
    )


Sizes = ctypes.POINTER(ctypes.c_int)
SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "network_new": (
        Pointer,
        (ctypes.c_int, ctypes.c_int, ctypes.c_int, Sizes, ctypes.c_int, Sizes, Long, Long, Long, Float, Float),
    ),
    "network_free": (None, (Pointer,)),
    "network_normalize": (None, (Pointer,) * 4),
    "network_box": (None, (Pointer,) * 5),
    "network_take": (None, (Pointer,) * 2),
    "network_act": (None, (Pointer, Long, *(Pointer,) * 5)),
    "network_gradient": (None, (Pointer,) * 6),
    "tower_new": (Pointer, (ctypes.c_int, ctypes.c_int, Sizes)),
    "tower_free": (None, (Pointer,)),
    "tower_forward": (None, (Pointer, Pointer, Long, Pointer, Pointer)),
    "tower_backward": (None, (Pointer, Pointer, Long, *(Pointer,) * 4)),
    "world_step": (Long, (ctypes.c_int, Pointer, Pointer)),
    "world_look": (None, (ctypes.c_int, Pointer, Pointer)),
    "norm": (ctypes.c_double, (Long, Pointer)),
    "adam": (None, (Long, Pointer, Pointer, Float, Pointer, Pointer, Float, ctypes.c_double, Float)),
}


_in_use = True


@contextmanager
def switched(on: bool) -> Iterator[None]:
    """Kernels or none within the context, whatever is there outside it: a run that began without goes on without."""
    global _in_use
    before, _in_use = _in_use, on
    try:
        yield
    finally:
        _in_use = before


def library() -> ctypes.CDLL | None:
    """The kernels, or None where they are switched off or cannot be had; then the log says once why."""
    return _made() if _in_use else None


@functools.cache
def _made() -> ctypes.CDLL | None:
    try:
        loaded = load()
    except Unavailable as reason:
        wanted = switch() != "off"
        log.log(
            logging.WARNING if wanted else logging.INFO,
            "native kernels are not used: %s; torch does their work, more slowly",
            reason,
        )
        return None
    from pistar.kernels import check

    problem = check.problem(loaded)
    if problem is not None:
        log.warning(
            "native kernels are not used: they compute wrongly here (%s); torch does their work, more slowly", problem
        )
        return None
    return loaded


def identity() -> str:
    """What a run notes of the kernels that it used: a digest, or "off"."""
    return "off" if library() is None else key(compiler())[:16]


class Unavailable(Exception):
    """Why there are no kernels here."""


def switch() -> str:
    """``PISTAR_KERNELS``: "off" turns them off."""
    return "off" if os.environ.get("PISTAR_KERNELS", "").lower() in ("off", "0", "no") else "on"


def compiler() -> tuple[str, ...]:
    """The compiler's command: ``CXX``, one that is installed, or else the one that the extra ``kernels`` brings."""
    names = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is not None:
        return (os.path.realpath(found),)
    if not os.environ.get("CXX") and importlib.util.find_spec("ziglang") is not None:
        return (sys.executable, "-m", "ziglang", "c++")
    raise Unavailable(
        f"no C++ compiler is installed (looked for {', '.join(names)}); install one, or pip install 'pistar[kernels]'"
    )


def flags() -> tuple[str, ...]:
    """What the compiler is told; compilers for ARM have another word for the processor at hand."""
    native = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    return (*FLAGS, native)


def key(command: tuple[str, ...]) -> str:
    """The digest of all that the compiled library depends on."""
    digest = hashlib.sha256()
    for path in sorted(SOURCE.iterdir()):
        digest.update(path.read_bytes())
    version = os.stat(command[0]).st_size if len(command) == 1 else importlib.metadata.version("ziglang")
    digest.update(repr((flags(), command[-1], version, platform.machine(), features())).encode())
    return digest.hexdigest()


def features() -> str:
    """The processor's model and instruction sets, as Linux tells them."""
    with suppress(OSError), open("/proc/cpuinfo") as file:
        lines = file.read().split("\n\n")[0].splitlines()
        wanted = ("flags", "Features", "cpu family", "model\t", "CPU part", "CPU implementer")
        return "\n".join(line for line in lines if line.startswith(wanted))
    return platform.processor()


def cache() -> Path:
    """Where compiled libraries are kept."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pistar" / "kernels"


def load() -> ctypes.CDLL:
    """The library with its signatures; compiles it where it is not in the cache. Raises Unavailable."""
    if switch() == "off":
        raise Unavailable("PISTAR_KERNELS is off")
    used = compiler()
    try:
        path = cache() / f"{key(used)}.so"
        if not path.is_file():
            compile_to(path, used)
        loaded = ctypes.CDLL(str(path))
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, RuntimeError, AttributeError) as error:
        raise Unavailable(str(error)) from error
    return loaded


def compile_to(path: Path, used: tuple[str, ...]) -> None:
    """Compile beside the place and move it there whole: another process may be doing the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, half = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    os.close(handle)
    try:
        command = [*used, *flags(), "-o", half, str(SOURCE / "kernels.cpp")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode != 0:
            raise Unavailable(f"{' '.join(used)} could not compile them: {done.stderr.strip()[:500]}")
        os.chmod(half, 0o700)  # nobody else should be able to change what this user runs
        os.replace(half, path)
        log.info("native kernels were compiled into %s", path)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{' '.join(used)} did not finish in {PATIENCE:g} s") from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(half)
