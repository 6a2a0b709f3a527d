"""The rules of the algorithm contract, and those that can be judged without training: one declaration, one policy.

What takes training to judge is in `repeating`, `refusing` and `improving`.
"""

from __future__ import annotations

import dataclasses
import tempfile
import tomllib
from pathlib import Path
from typing import Any, Never

import torch

from pistar import artefact, configuration, settings
from pistar.algorithms import ALGORITHMS
from pistar.algorithms.algorithm import Algorithm
from pistar.envs.environment import Spaces
from pistar.errors import PistarError, UsageError
from pistar.experiment import Experiment
from pistar.policies import POLICIES
from pistar.policy import Policy
from pistar.registry import Registry
from pistar.testing.violation import ContractViolation

RULES = {
    "declaration": "a frozen dataclass derived from Algorithm, with summary, paper, kind of experience and recipes",
    "configuration": "its fields are hyperparameters that TOML can hold; class and values come back from a file as equal",
    "policy": "policy_kind gives a frozen dataclass that builds, and whose policy a file can hold; each parameter is in one part",
    "state": "init and improve return all that is remembered, as a dict of str to tensors, JSON scalars or such dicts",
    "metrics": "improve returns metrics as a dict of str to finite floats",
    "descent": "improve moves parameters, by gradient through the learner or by its `set`",
    "determinism": "equal seeds give equal bits: parameters, state and metrics",
    "resume": "a new session and a new instance, given a checkpoint, go on bit for bit; nothing is remembered elsewhere",
    "refusal": "experience that is not finite ends in NumericalError or EnvironmentFailure before any parameter moves",
    "improvement": "after a modest training the policy is clearly better than random actions",
}


def violate(rule: str, finding: str) -> Never:
    """Raise ContractViolation for a rule of this list."""
    raise ContractViolation(rule, finding, RULES)


def check_declaration(algorithm: Any) -> None:
    """Is it declared as `pistar algorithms` and sessions need it?"""
    cls = type(algorithm)
    if not isinstance(algorithm, Algorithm):
        violate("declaration", f"{cls.__name__} does not derive from pistar.algorithms.algorithm.Algorithm")
    check_frozen("declaration", algorithm)
    for name in ("summary", "paper"):
        value = getattr(cls, name, None)
        if not isinstance(value, str) or not value.strip():
            violate("declaration", f"{cls.__name__}.{name} must be a non-empty str, received {value!r}")
    if algorithm.experience not in ("rollout", "replay"):
        violate("declaration", f'experience must be "rollout" or "replay", received {algorithm.experience!r}')
    if algorithm.experience == "replay" and algorithm.replay_capacity < 1:
        violate("declaration", f"it learns from replay, but its replay_capacity is {algorithm.replay_capacity!r}")


def check_frozen(rule: str, value: Any) -> None:
    """A frozen dataclass, itself and not through its base class alone."""
    cls = type(value)
    if "__dataclass_params__" not in vars(cls) or not vars(cls)["__dataclass_params__"].frozen:
        violate(rule, f"{cls.__name__} is not decorated with @dataclass(frozen=True)")


def check_configuration(algorithm: Algorithm) -> None:
    """Do its hyperparameters survive being written to a file and read again?"""
    check_from_file("configuration", algorithm, ALGORITHMS)
    kind = ALGORITHMS.kind_of(algorithm)
    for actions, recipe in algorithm.recipes.items():
        if actions not in ("continuous", "discrete"):
            violate("declaration", f'a recipe is for "continuous" or "discrete" actions, received {actions!r}')
        chosen = {"algorithm": kind, "policy": recipe.get("policy", {}).get("kind", "mlp"), "task": "gymnasium"}
        try:
            settings.check_tables(recipe, chosen, f"the recipe for {actions} actions")
        except UsageError as error:
            violate("declaration", str(error))


def check_from_file(rule: str, value: Any, registry: Registry) -> Any:
    """The instance that a TOML file makes of a frozen dataclass, which must be an equal one."""
    kind = registry.kind_of(value)
    try:
        cls = registry.get(kind)
    except UsageError as error:
        violate(rule, f"its class cannot be found again as {kind}: {error}; define it at the top level of a module")
    if cls is not type(value):
        violate(rule, f"{kind} is another class than that of the instance")
    try:
        text = configuration.to_toml({"it": configuration.to_table(value)})
        again = configuration.build(cls, tomllib.loads(text).get("it", {}), kind)
    except (PistarError, TypeError, ValueError, NameError) as error:
        violate(rule, f"{value!r} does not survive a file: {error}")
    for field in dataclasses.fields(value):
        before, after = getattr(value, field.name), getattr(again, field.name)
        if before != after or type(before) is not type(after):
            violate(rule, f"{field.name} is {before!r}, and {after!r} when it comes back from a file")
    return again


def check_policy(experiment: Experiment, spaces: Spaces) -> None:
    """Can the policy that is trained be built again, learned as a whole, and kept in a file?"""
    kind = experiment.algorithm.policy_kind(experiment.policy)
    check_frozen("policy", kind)
    check_from_file("policy", kind, POLICIES)
    policy = kind.build(spaces, torch.Generator().manual_seed(0))
    if not isinstance(policy, Policy):
        violate("policy", f"{type(kind).__name__}.build returned a {type(policy).__name__}, which is no Policy")
    if policy.kind != kind:
        violate("policy", f"its kind is {policy.kind!r}, but it was built by {kind!r}")
    check_parts(policy)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "policy.safetensors"
        artefact.save(policy, path)
        try:
            again = artefact.load(path, trust=artefact.code_of(kind))
        except PistarError as error:
            violate("policy", f"its file cannot be loaded: {error}")
    for name, tensor in policy.state_dict().items():
        if not torch.equal(tensor, again.state_dict()[name]):
            violate("policy", f"{name} comes back from a file with other values")


def check_parts(policy: Policy) -> None:
    """The learner and checkpoints know parameters by the parts that list them."""
    listed = [id(parameter) for part in policy.parts().values() for parameter in part]
    for name, parameter in policy.named_parameters():
        times = listed.count(id(parameter))
        if times != 1:
            violate("policy", f"the parameter {name} is listed {times} times in parts(), expected once")
