"""The words in which an environment's fault reaches the user: which environment, lane and step, and what it did.

Every adapter words the same fault alike, whether the environment runs in this process or in a worker. The step is
counted from the run's start (0 is the first), the lane over all lanes of the adapter plus its offset.
"""

from __future__ import annotations

import traceback

from pistar.errors import EnvironmentFailure


def place(name: str, lane: int | None, step: int | None) -> str:
    """Where a fault happened: ``"CartPole-v1, lane 3, step 17"``."""
    parts = [name]
    if lane is not None:
        parts.append(f"lane {lane}")
    if step is not None:
        parts.append(f"step {step}")
    return ", ".join(parts)


def broke_contract(name: str, problem: str, lane: int | None = None, step: int | None = None) -> EnvironmentFailure:
    """The environment returned something that the Gymnasium interface or its own spaces forbid."""
    return EnvironmentFailure(f"{place(name, lane, step)}: {problem}", lane, step)


def raised(
    name: str, call: str, error: BaseException, lane: int | None = None, step: int | None = None
) -> EnvironmentFailure:
    """The environment's ``call`` raised; the message holds its traceback from the environment's own frame on."""
    own_frames = error.__traceback__.tb_next if error.__traceback__ else None
    trace = "".join(traceback.format_exception(type(error), error, own_frames)).rstrip()
    summary = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return EnvironmentFailure(f"{place(name, lane, step)}: {call} raised {summary}\n{trace}", lane, step)
