"""Environments that keep pistar's own contract: a task's, or a class of ``pistar.envs.environment.Environment``.

The contract is `check_environment`'s business and every breach of it an error; what is added here is what a Gymnasium
environment is asked too: spaces, rewards, ends, restoring and speed.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from types import SimpleNamespace

import torch

from pistar.doctor import declared
from pistar.doctor.findings import Diagnosis, Place, counted
from pistar.doctor.running import LANES
from pistar.envs.allowed import OnlyAllowed
from pistar.envs.environment import Environment
from pistar.errors import EnvironmentFailure
from pistar.testing import ContractViolation, check_environment
from pistar.testing.environments.recording import go_on, random_actions

TIERS = {
    "state": "saves and restores its whole state, so runs can be resumed at any step",
    "replay": "restored by replaying each lane's actions, so runs can be resumed at any step",
    "boundary": "not restorable: runs resume from their last checkpoint, where all episodes begin anew",
}


def examine_native(diagnosis: Diagnosis, make: Callable[[int], Environment], steps: int, seed: int) -> None:
    """All findings about ``make(lanes)``."""
    environment = OnlyAllowed.around(make(LANES))
    try:
        spaces = environment.spaces
        declared.check_spaces(
            diagnosis, SimpleNamespace(observation_space=spaces.observation, action_space=spaces.action)
        )
        tier = environment.restoring
        _check_run(diagnosis, environment, steps, seed)
    except EnvironmentFailure as error:
        place = None if error.lane is None or error.step is None else Place(error.lane, 0, error.step)
        diagnosis.fail("interface", str(error), "see the traceback above", place)
        return
    finally:
        environment.close()
    _check_contract(diagnosis, make, min(steps, 200), seed)
    if tier in TIERS and diagnosis.clean("contract"):
        diagnosis.ok("restoring", TIERS[tier])


def _check_contract(diagnosis: Diagnosis, make: Callable[[int], Environment], steps: int, seed: int) -> None:
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        try:
            check_environment(make, lanes=2, steps=steps, seed=seed)
        except ContractViolation as violation:
            finding, _, rule = str(violation).partition("\n  ")
            diagnosis.fail("contract", finding, f"mend it and look again; {rule}")
            return
    text = "check_environment finds nothing wrong"
    about = [str(each.message) for each in noted if "no episode ended" in str(each.message)]
    diagnosis.ok("contract", "; ".join([text, *about]))


def _check_run(diagnosis: Diagnosis, environment: Environment, steps: int, seed: int) -> None:
    actions = random_actions(environment, steps, seed)
    environment.reset(seed)
    started = time.perf_counter()
    entries = go_on(environment, actions)
    seconds = time.perf_counter() - started
    rewards = torch.stack([entry.reward for entry in entries])
    largest = float(rewards.abs().max())
    if largest > 1e3 or largest < 1e-3:
        diagnosis.warn("reward", f"the largest reward is {largest:.3g} in size", "scale it to about 1 a step")
    else:
        diagnosis.ok("reward", f"{float(rewards.min()):.4g} to {float(rewards.max()):.4g} a step")
    terminated = sum(int(entry.terminated.sum()) for entry in entries)
    ended = sum(int(entry.ended.sum()) for entry in entries)
    if ended:
        diagnosis.ok("episodes", f"{counted(ended, 'episode')} ended, {terminated} of them terminated")
    else:
        advice = "give it a time limit, or ask for more --steps"
        diagnosis.warn("episodes", f"no episode ended within {steps} random steps of {environment.lanes} lanes", advice)
    rate = steps * environment.lanes / seconds
    diagnosis.ok(
        "speed", f"{rate:,.0f} steps/s with {environment.lanes} lanes, {1e3 * seconds / steps:.3g} ms a step of all"
    )
