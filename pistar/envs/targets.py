"""From what a user names to a Gymnasium environment.

A target is a registered id (``"CartPole-v1"``), an id that a module registers on import (``"module:Id-v0"``), a class
or function in a module (``"module:Class"``) or a callable. Strings travel to worker processes under any start method;
callables do so under fork, or when they can be imported by name.

What this leaves out: checking what the environment then does; ``lanes`` checks every value that it returns.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
from gymnasium import error as gymnasium_error
from gymnasium.vector import VectorEnv

from pistar import registry
from pistar.envs import failures
from pistar.errors import MissingExtra, UnknownName, UsageError

Target = str | Callable[..., Any]
Options = Mapping[str, Any]

EXTRAS = {"mujoco": "mujoco", "pygame": "classic"}  # module that Gymnasium misses -> our extra that brings it
INTERFACE = ("reset", "step", "action_space", "observation_space")


def name_of(target: Target | object) -> str:
    """How messages call the target: a string as it is, anything else by its qualified name."""
    if isinstance(target, str):
        return target
    return str(getattr(target, "__qualname__", None) or type(target).__qualname__)


def make(target: Target, options: Options | None = None, *, render: bool = False) -> Any:
    """A new environment of ``target``; ``options`` are the keyword arguments of its constructor.

    ``render`` asks for frames (``render_mode="rgb_array"``), except of a callable, which decides that itself.
    Raises UnknownName, MissingExtra, UsageError, or EnvironmentFailure where the constructor raises.
    """
    arguments = dict(options or {})
    if render and isinstance(target, str):
        arguments["render_mode"] = "rgb_array"
    environment = created(target, resolve(target), arguments)
    missing = [name for name in INTERFACE if not hasattr(environment, name)]
    if missing:
        raise UsageError(
            f"{name_of(target)} made a {type(environment).__name__}, which has no {', '.join(missing)}; "
            "expected a gymnasium.Env"
        )
    return environment


def make_vector(
    target: Target | VectorEnv[Any, Any, Any], lanes: int, options: Options | None = None, *, render: bool = False
) -> Any:
    """The vector environment of ``lanes`` lanes that ``target`` names, makes (given ``num_envs``) or is."""
    arguments = dict(options or {})
    if isinstance(target, VectorEnv):
        if arguments or (render and target.render_mode != "rgb_array"):
            raise UsageError(
                f"{name_of(target)} is made already; expected no options, and rendering only of rgb_array, received "
                f"options = {arguments}, render = {render}; make it with them, or pass its class"
            )
        return target
    if render and isinstance(target, str):
        arguments["render_mode"] = "rgb_array"
    environment = created(target, _resolve_vector(target), {"num_envs": lanes, **arguments})
    if not isinstance(environment, VectorEnv):
        raise UsageError(
            f"{name_of(target)} made a {type(environment).__name__}, expected a gymnasium.vector.VectorEnv; step the "
            "lanes of other environments one by one (GymnasiumLanes, or WorkerLanes in several processes)"
        )
    return environment


def _resolve_vector(target: Target) -> Callable[..., Any]:
    """What makes the vector environment: a class, a function, or ``gymnasium.make_vec`` of an id."""
    create, identifier = _found(target)
    if create is not None:
        return create
    if gymnasium.spec(identifier).vector_entry_point is None:
        raise UsageError(
            f"{target} has no vectorised form of its own (no vector entry point); step its lanes one by one instead "
            "(GymnasiumLanes, or WorkerLanes in several processes)"
        )
    return functools.partial(gymnasium.make_vec, identifier, vectorization_mode="vector_entry_point")


def created(target: Target, create: Callable[..., Any], arguments: Options) -> Any:
    """What ``create`` makes, its errors in our words."""
    try:
        return create(**arguments)
    except gymnasium_error.DependencyNotInstalled as error:
        raise missing_dependency(name_of(target), error) from error
    except (Exception, SystemExit) as error:
        raise failures.raised(name_of(target), "its constructor", error) from error


def resolve(target: Target) -> Callable[..., Any]:
    """What makes the environment: a class, a function, or ``gymnasium.make`` of an id."""
    create, identifier = _found(target)
    if create is not None:
        return create
    # Every value is checked in `lanes`; Gymnasium's own checker would only repeat that more slowly.
    return functools.partial(gymnasium.make, identifier, disable_env_checker=True)


def _found(target: Target) -> tuple[Callable[..., Any] | None, str]:
    """A target's own callable or, where there is none, the registered id that it names."""
    if not isinstance(target, str):
        if not callable(target):
            raise UsageError(
                f"expected an environment's id, 'module:Class' or a callable that makes one, received {target!r}"
            )
        return target, ""
    identifier = target
    if ":" in target:
        module_name, _, identifier = target.partition(":")
        found = attribute(import_module(module_name, target), identifier)
        if found is not None:
            return found, ""
    check_registered(identifier, target)
    return None, identifier


def import_module(module_name: str, target: str) -> Any:
    """The module that a ``module:name`` target lives in."""
    try:
        return registry.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the environment {target!r} needs the module {error.name!r}, which cannot be found; install it, or run "
            "from the folder that holds it"
        ) from error
    except Exception as error:
        raise failures.raised(target, f"importing {module_name}", error) from error


def attribute(module: Any, path: str) -> Callable[..., Any] | None:
    """The callable at a dotted path inside a module, or None where there is none (it may be an id)."""
    value = module
    for part in path.split("."):
        value = getattr(value, part, None)
    return value if callable(value) else None


def check_registered(identifier: str, target: str) -> None:
    """Raise UnknownName, with the nearest ids, unless Gymnasium can make ``identifier``."""
    try:
        gymnasium.spec(identifier)
    except gymnasium_error.Error as error:
        near = difflib.get_close_matches(identifier, gymnasium.registry, n=8, cutoff=0.4)
        hint = (
            f"Those are the nearest of {len(gymnasium.registry)} registered ids; the package that registers yours may "
            "have to be imported, as in 'package:Id-v0'"
        )
        raise UnknownName("environment", target, near, hint) from error


def missing_dependency(name: str, error: gymnasium_error.DependencyNotInstalled) -> UsageError:
    """What to install for an environment whose own dependency is absent."""
    for package, extra in EXTRAS.items():
        if package in str(error).lower():
            return MissingExtra(package, extra, name)
    return UsageError(f"{name} needs a package that is not installed: {error}")
