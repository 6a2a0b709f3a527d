"""Wrappers change what an environment shows or takes, and are environments themselves: they stack in any order.

    TimeLimit          cuts episodes short (truncated, with the observation before the cut)
    ActionDelay        executes what was chosen some steps ago, as slow actuators and networks do
    ObservationNoise   adds Gaussian noise, as sensors do
    FrameStack         shows the last observations side by side, so that velocities can be seen

Each keeps the tier of restoring of what it wraps, and its own state is part of ``save``. Where an episode begins, nothing of
the one before is left: the stack holds its first observation only, and delayed actions are neutral (zero, or as near to
it as the space allows). Noise is a function of (seed, lane, episode, step), so that lanes stay independent.

Left out: rewards and anything learned; that is the algorithm's side.
"""

from pistar.envs.wrappers.action_delay import ActionDelay, neutral_action
from pistar.envs.wrappers.frame_stack import FrameStack
from pistar.envs.wrappers.observation_noise import ObservationNoise
from pistar.envs.wrappers.time_limit import TimeLimit
from pistar.envs.wrappers.wrapper import Wrapper

__all__ = ["ActionDelay", "FrameStack", "ObservationNoise", "TimeLimit", "Wrapper", "neutral_action"]
