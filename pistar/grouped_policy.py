"""The policies of several groups of agents as one: what is judged, watched and saved together.

Each group has a policy of its own, learned by itself (`pistar.grouped_session`); a `GroupedPolicy` holds them and acts for all:
observations and actions are dicts by group. Of lanes that belong to another group it computes something too, which the world
ignores; that costs a few rows, and no one has to know which lanes are whose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from pistar.envs.environment import Spaces
from pistar.errors import UsageError
from pistar.heads.joint import JointHead
from pistar.policy import Evaluation, Policy
from pistar.tree import Tree


class GroupedPolicy(Policy):
    """``groups``: name -> policy. ``policy.groups["adversary"]`` acts for its group alone."""

    def __init__(self, groups: Mapping[str, Policy]) -> None:
        super().__init__()
        observation, action = (
            spaces.Dict({name: getattr(policy.spaces, which) for name, policy in groups.items()})
            for which in ("observation", "action")
        )
        self.spaces, self.kind = Spaces(observation, action), None
        self._names, self.members = tuple(groups), nn.ModuleList(groups.values())
        self.head = JointHead({name: policy.head for name, policy in groups.items()})
        masks = {name: policy.mask for name, policy in groups.items() if policy.mask is not None}
        self.mask: Any = masks or None  # by group, as an environment with groups has it

    @property
    def groups(self) -> dict[str, Policy]:
        """The policies by name."""
        return dict(zip(self._names, self.members, strict=True))  # type: ignore[arg-type]

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Those of every group."""
        return {f"{group}/{name}": part for group, p in self.groups.items() for name, part in p.parts().items()}

    def initial_memory(self, lanes: int) -> Tree:
        """By group; None where no group has one."""
        made = {name: policy.initial_memory(lanes) for name, policy in self.groups.items()}
        return None if all(memory is None for memory in made.values()) else made

    def outputs(self, observation: Tree, memory: Tree = None, is_first: Tensor | None = None) -> tuple[Tensor, Tree]:
        """The groups' outputs side by side."""
        found, after = [], {}
        for name, policy in self.groups.items():
            outputs, after[name] = policy.outputs(observation[name], None if memory is None else memory[name], is_first)
            found.append(outputs)
        nothing = all(each is None for each in after.values())
        return torch.cat(found, -1), None if nothing else after

    def evaluate(self, observation: Tree, action: Tree) -> Evaluation:
        """Refused: each group learns by itself."""
        raise UsageError(
            "a policy of several groups is not evaluated as one; each learns by itself: policy.groups[name]"
        )
