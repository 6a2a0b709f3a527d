"""From what a user names to a PettingZoo environment, with its agents acting together or in turn.

A target is the name of one of PettingZoo's own environments (``"pistonball_v6"``, whichever family it is in; the particle worlds
of mpe2, which once were PettingZoo's, too), a module
that has ``parallel_env`` or ``env`` as PettingZoo's have (``"mpe2.simple_spread_v3"``), ``"module:callable"`` or a callable.

It differs from ``targets``, which knows Gymnasium's registry: PettingZoo's modules are found by their names alone.
"""

from __future__ import annotations

import importlib.util
import pkgutil
import re
from collections.abc import Callable
from typing import Any, Literal

from pistar.envs import targets
from pistar.errors import MissingExtra, UnknownName, UsageError

Api = Literal["auto", "parallel", "turns"]  # agents act together, in turn, or together where the environment can

MAKERS = {"auto": ("parallel_env", "env"), "parallel": ("parallel_env",), "turns": ("env",)}


def make(
    target: targets.Target, api: Api = "auto", options: targets.Options | None = None, *, render: bool = False
) -> Any:
    """A new environment; ``options`` are the keyword arguments of its constructor.

    Raises UnknownName, MissingExtra, UsageError, or EnvironmentFailure where the constructor raises.
    """
    arguments = dict(options or {})
    if render and isinstance(target, str):
        arguments["render_mode"] = "rgb_array"
    environment = targets.created(target, resolve(target, api), arguments)
    if not hasattr(environment, "possible_agents") or not callable(getattr(environment, "observation_space", None)):
        raise UsageError(
            f"{targets.name_of(target)} made a {type(environment).__name__}, which has no possible_agents or "
            "observation_space(agent); expected a pettingzoo.ParallelEnv or a pettingzoo.AECEnv"
        )
    wanted = {"parallel": False, "turns": True}.get(api)
    if wanted is not None and takes_turns(environment) is not wanted:
        kinds = ("agents that act together (ParallelEnv)", "agents that act in turn (AECEnv)")
        raise UsageError(
            f"{targets.name_of(target)} has {kinds[not wanted]}, but api is {api!r}; leave it out, or name another maker"
        )
    return environment


def takes_turns(environment: Any) -> bool:
    """Whether its agents act in turn (PettingZoo's AECEnv) instead of together."""
    return hasattr(environment, "agent_iter")


def resolve(target: targets.Target, api: Api = "auto") -> Callable[..., Any]:
    """What makes the environment."""
    if not isinstance(target, str):
        if not callable(target):
            raise UsageError(
                f"expected a PettingZoo environment's name or a callable that makes one, received {target!r}"
            )
        return target
    require_library(target)
    if ":" in target:
        name, _, path = target.partition(":")
        found = targets.attribute(imported(name, target), path)
        if found is None:
            raise UsageError(f"{name} has no callable {path!r}, which the target {target!r} names")
        return found
    return _own(target, api) if "." not in target else _of_module(target, api)


def _of_module(target: str, api: Api) -> Callable[..., Any]:
    """What makes the environment of a module that is like PettingZoo's."""
    module = imported(target, target)
    for maker in MAKERS[api]:
        if callable(getattr(module, maker, None)):
            made: Callable[..., Any] = getattr(module, maker)
            return made
    raise UsageError(
        f"the module {module.__name__} has no {' or '.join(MAKERS[api])}, as PettingZoo's have; name what makes the "
        "environment: module:callable"
    )


def require_library(target: str) -> None:
    """Raise MissingExtra where PettingZoo is not installed."""
    if importlib.util.find_spec("pettingzoo") is None:
        raise MissingExtra("pettingzoo", "multi", target)


def imported(module: str, target: str) -> Any:
    """The module; what it misses is named with the extra that brings it."""
    try:
        return targets.import_module(module, target)
    except UsageError as error:
        missing = getattr(error.__cause__, "name", None)
        if missing == "pygame":
            raise MissingExtra("pygame", "multi", target) from error
        raise


def _own(name: str, api: Api) -> Callable[..., Any]:
    """What makes one of PettingZoo's own environments, or of mpe2's, which were; its family may be left out."""
    import pettingzoo

    together, turns = pettingzoo.parallel_registry, pettingzoo.aec_registry
    known = {"parallel": together, "turns": turns, "auto": {**turns, **together}}[api]
    named = {plain(identifier): specification for identifier, specification in known.items()}
    specification = named.get(plain(name))
    if specification is None:
        particles = moved_to("mpe2")
        if plain(name) in particles:
            return _of_module(f"mpe2.{plain(name)}", api)
        hint = "Other packages' environments are given by their module, as in pettingzoo:my_package.my_world_v0"
        raise UnknownName("PettingZoo environment", name, [*named, *particles], hint)
    module, _, maker = str(specification.entry_point).partition(":")
    made: Callable[..., Any] = getattr(imported(module, name), maker)
    return made


def moved_to(package: str) -> list[str]:
    """The environments of a package whose modules are named as PettingZoo's; none where it is not installed."""
    found = importlib.util.find_spec(package)
    if found is None or found.submodule_search_locations is None:
        return []
    modules = (module.name for module in pkgutil.iter_modules(found.submodule_search_locations))
    return [name for name in modules if re.search(r"_v\d+$", name)]


def plain(identifier: str) -> str:
    """``classic/tictactoe-v3`` -> ``tictactoe_v3``."""
    return identifier.rpartition("/")[2].replace("-", "_")
