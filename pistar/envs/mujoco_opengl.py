"""Which OpenGL can MuJoCo render with here, if any?

A missing or unfit OpenGL shows itself in many ways: an exception while a library is imported, one while a context is
made, a black picture, or the end of the process. Each candidate is therefore tried in a process of its own, which draws
a small scene; only what has worked there is used in this one. The user's ``MUJOCO_GL`` is respected; without it and
without a display, EGL and OSMesa are tried, which need none.

Left out: windows, and choosing among several graphics cards (MuJoCo's ``MUJOCO_EGL_DEVICE_ID`` does that).
"""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
import tempfile
from typing import Any

__all__ = ["hint", "make_renderer"]

TRIAL = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light pos='0 0 3'/><geom size='1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 32, 32)
renderer.update_scene(data)
picture = renderer.render()
renderer.close()
if picture.min() == picture.max():
    raise SystemExit("the picture stays empty")
"""
PATIENCE = 60  # seconds until a trial counts as failed; software rendering needs about one
AS_IS = ""  # whatever importing mujoco has chosen
PACKAGES = "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri"


def hint() -> str | None:
    """None where MuJoCo can render by OpenGL, else one line that says why not and what to install.

    The first call takes up to a second or two, and its answer holds for the life of the process.
    """
    _, problem = _choose()
    if problem is None:
        return None
    return (
        f"frames are drawn flat, because MuJoCo cannot render by OpenGL here ({problem}); "
        f"on Debian and Ubuntu: {PACKAGES}"
    )


def make_renderer(mujoco: Any, model: Any, size: int) -> Any:
    """A ``mujoco.Renderer`` for square frames of ``size`` pixels; None where OpenGL does not work (see ``hint``)."""
    backend, problem = _choose()
    if problem is not None:
        return None
    try:
        if backend in ("egl", "osmesa"):
            _install(backend)
        return mujoco.Renderer(model, size, size)
    except Exception:  # it worked in the trial, but here (in a thread, after a fork) it does not
        return None


@functools.cache
def _choose() -> tuple[str, str | None]:
    """The first backend that works and None, or any and the reason why none does."""
    linux, headless = sys.platform.startswith("linux"), not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    if "MUJOCO_GL" in os.environ:
        backends = [os.environ["MUJOCO_GL"].strip().lower()]
    elif linux:
        backends = ["egl", "osmesa"] if headless else [AS_IS, "egl", "osmesa"]
    else:
        backends = [AS_IS]
    problems = []
    for backend in backends:
        problem = _try(backend)
        if problem is None:
            return backend, None
        problems.append(f"{backend or 'the default'}: {problem}")
    return AS_IS, "; ".join(problems)


def _try(backend: str) -> str | None:
    """None where a fresh process can render by ``backend``, else the reason in a few words."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)}
    if backend != AS_IS:
        environment["MUJOCO_GL"] = backend
    with tempfile.TemporaryDirectory() as directory:  # MuJoCo may write a log file into the working directory
        try:
            trial = subprocess.run(
                [sys.executable, "-c", TRIAL],
                env=environment,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired:
            return f"no picture within {PATIENCE} s"
        except OSError as error:
            return f"no process for a trial: {error}"
    if trial.returncode == 0:
        return None
    lines = trial.stderr.strip().splitlines()
    return lines[-1][:120] if lines else f"the trial ended with code {trial.returncode}"


def _install(backend: str) -> None:
    """Make ``mujoco.Renderer`` use a backend although mujoco, imported earlier, has chosen another."""
    chooser = importlib.import_module("mujoco.rendering.classic.gl_context")
    context = importlib.import_module(f"mujoco.{backend}").GLContext
    if getattr(chooser, "GLContext", None) is not context:
        vars(chooser)["GLContext"] = context
