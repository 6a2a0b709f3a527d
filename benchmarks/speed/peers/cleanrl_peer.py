"""CleanRL's ppo.py from a checkout, as a script; its prints are where the returns of episodes are read from."""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import sys
import tempfile
import time

import gymnasium  # noqa: F401 (all that the script imports, so that the clock leaves it out)
import measure
import torch
import tyro  # noqa: F401
from torch.utils.tensorboard import SummaryWriter  # noqa: F401

imported = time.perf_counter() - measure.BEGAN
torch.set_num_threads(1)
job = measure.job()
flags = {
    "env-id": job["task"],
    "total-timesteps": job["steps"],
    "num-envs": job["lanes"],
    "num-steps": job["horizon"],
    "num-minibatches": job["lanes"] * job["horizon"] // job["minibatch"],
    "update-epochs": job["epochs"],
    "learning-rate": job["learning_rate"],
    "ent-coef": job["entropy_weight"],
    "seed": job["seed"],
}
script = f"{job['checkout']}/cleanrl/ppo.py"
sys.argv = [script, "--no-cuda", "--no-anneal-lr", *(f"--{name}={value}" for name, value in flags.items())]
printed = io.StringIO()
with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(printed):
    os.chdir(directory)
    began = time.perf_counter()
    runpy.run_path(script, run_name="__main__")
    seconds = time.perf_counter() - began
returns = [float(found) for found in re.findall(r"episodic_return=\[?([-\d.e+]+)", printed.getvalue())]
batch = job["lanes"] * job["horizon"]
measure.report(
    steps=job["steps"] // batch * batch,
    seconds=seconds,
    imported=imported,
    returns=returns,
    packages=["torch", "numpy", "gymnasium"],
)
