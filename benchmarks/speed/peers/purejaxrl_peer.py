"""PureJaxRL's PPO from a checkout: the whole training, its own CartPole included, compiled. Compiling is counted."""

from __future__ import annotations

import importlib
import sys
import time

import jax
import measure
import numpy as np

job = measure.job()
jax.tree_map = jax.tree_util.tree_map  # what gymnax 0.0.8, for which it was written, still calls so
sys.path.insert(0, f"{job['checkout']}/purejaxrl")
ppo = importlib.import_module("ppo")
imported = time.perf_counter() - measure.BEGAN
settings = {
    "LR": job["learning_rate"],
    "NUM_ENVS": job["lanes"],
    "NUM_STEPS": job["horizon"],
    "TOTAL_TIMESTEPS": job["steps"],
    "UPDATE_EPOCHS": job["epochs"],
    "NUM_MINIBATCHES": job["lanes"] * job["horizon"] // job["minibatch"],
    "GAMMA": 0.99,
    "GAE_LAMBDA": 0.95,
    "CLIP_EPS": 0.2,
    "ENT_COEF": job["entropy_weight"],
    "VF_COEF": 0.5,
    "MAX_GRAD_NORM": 0.5,
    "ACTIVATION": "tanh",
    "ENV_NAME": job["task"],
    "ANNEAL_LR": False,
    "DEBUG": False,
}
began = time.perf_counter()
compiled = jax.jit(ppo.make_train(settings)).lower(jax.random.PRNGKey(job["seed"])).compile()
compiling = time.perf_counter() - began
out = jax.block_until_ready(compiled(jax.random.PRNGKey(job["seed"])))
seconds = time.perf_counter() - began
ended = np.asarray(out["metrics"]["returned_episode"]).astype(bool)
returns = np.asarray(out["metrics"]["returned_episode_returns"])[ended].tolist()
steps = job["steps"] // (job["lanes"] * job["horizon"]) * job["lanes"] * job["horizon"]
measure.report(
    steps=steps,
    seconds=seconds,
    imported=imported,
    returns=returns,
    packages=["jax", "flax", "gymnax"],
    compile_seconds=compiling,
)
