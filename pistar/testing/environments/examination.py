"""What the checks of one environment share: how instances are made, and a reference run to compare with."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pistar.envs.allowed import OnlyAllowed
from pistar.envs.environment import Environment
from pistar.testing.environments.recording import Entry, copied, row
from pistar.tree import Tree

Start = tuple[int, int, int, Tree]  # lane, episode, the step that showed it, observation [1, ...]


@dataclass
class Examination:
    """One call of ``check_environment``; its first check fills in the reference run."""

    make: Callable[[int], Environment]
    lanes: int
    steps: int
    seed: int
    independent: bool  # whether lanes are worlds of their own
    actions: list[Tree] = field(default_factory=list)
    first: Tree = None  # the reference run's first observation
    entries: list[Entry] = field(default_factory=list)
    starts: list[Tree] = field(default_factory=list)  # [B, ...] by episode, reached by cuts alone
    repeats: bool = True  # whether equal seeds and actions gave equal bits

    @contextmanager
    def fresh(self, lanes: int | None = None) -> Iterator[Environment]:
        """A new instance, closed afterwards; one with a mask is given allowed actions only."""
        with closing(self.make(self.lanes if lanes is None else lanes)) as environment:
            yield OnlyAllowed.around(environment)

    def mask(self, *lanes: int) -> Tensor:
        """[B] bool: True at ``lanes``."""
        return torch.tensor([lane in lanes for lane in range(self.lanes)])

    def everyone(self) -> Tensor:
        """[B] bool, all True."""
        return torch.ones(self.lanes, dtype=torch.bool)

    def moments(self) -> list[int]:
        """Numbers of steps after which runs are cut or saved: none, a third, and right after an end."""
        third = self.steps // 3
        ends = [t + 1 for t, entry in enumerate(self.entries[:-1]) if bool(entry.ended.any())]
        return sorted({0, third, *[t for t in ends if t != third][:1]})


def table_of_starts(environment: Environment, seed: int, episodes: int) -> list[Tree]:
    """The starts [B, ...] of the first episodes, by cutting all lanes again and again."""
    everyone = torch.ones(environment.lanes, dtype=torch.bool, device=environment.device)
    return [copied(environment.reset(seed)), *(copied(environment.cut(everyone)) for _ in range(episodes - 1))]


def starts_met(first: Tree, entries: Sequence[Entry]) -> Iterator[Start]:
    """Every start that a run shows, the first ones included, whether the backend resets at once or one step later."""
    for lane in range(len(entries[0].reward) if entries else 0):
        yield lane, 0, 0, row(first, lane)
        episode = 0
        for t, (entry, following) in enumerate(itertools.pairwise(entries)):
            if bool(entry.ended[lane]):
                episode += 1
                late = not bool(following.valid[lane])
                yield lane, episode, t + late, row(following.observation if late else entry.observation, lane)


def global_streams() -> dict[str, bytes]:
    """The states of the random streams that belong to the process."""
    numpy = np.random.get_state(legacy=False)["state"]
    streams = {
        "random": repr(random.getstate()).encode(),
        "numpy": numpy["key"].tobytes() + bytes(str(numpy["pos"]), "ascii"),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        streams["torch.cuda"] = b"".join(state.numpy().tobytes() for state in torch.cuda.get_rng_state_all())
    return streams


@contextmanager
def reseeded_streams(seed: int | None) -> Iterator[None]:
    """Reseed the process's random streams (None: leave them), and give them back as they were."""
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    if seed is not None:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])
