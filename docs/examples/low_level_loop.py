"""The loop, written out: what a researcher changes when an algorithm, a collector or a schedule is the question.

`pistar.train` is this loop with records, evaluations and checkpoints around it. Everything below is a plain object, so
that any line can be replaced: a rollout is T × B steps of tensors, `improve` is the only line in which parameters move,
and moments of observations and rewards move in `absorb`, after the rollout has been learned from.

    python docs/examples/low_level_loop.py
"""

import torch

from pistar import Collector, Learner
from pistar.algorithms.ppo import PPO
from pistar.envs.gym_lanes import GymnasiumLanes
from pistar.normalization import RewardScale
from pistar.policies.mlp import MLP
from pistar.schedules import linear


def learn(steps: int = 40_000, lanes: int = 8, horizon: int = 128, seed: int = 0) -> float:
    """Train on CartPole-v1; the mean return of the last (at most 100) episodes."""
    environment = GymnasiumLanes("CartPole-v1", lanes)
    policy = MLP().build(environment.spaces, torch.Generator().manual_seed(seed))
    algorithm = PPO(epochs=4, minibatch=256, entropy_weight=linear(0.01, 0.0), normalize_advantages=True)
    learner = Learner(policy, learning_rate=1e-3, max_gradient_norm=0.5, seed=seed)
    scale = RewardScale(lanes, algorithm.discount)
    collector = Collector(environment, policy, seed=seed, reward_scale=scale)
    state = algorithm.init(policy, lanes)

    collector.start(warm_up=1000)
    while collector.steps < steps:
        progress = collector.steps / steps
        learner.set_learning_rate(1e-3 * (1 - progress))
        rollout = collector.collect(horizon)
        state, metrics = algorithm.improve(learner, rollout, state, progress)
        collector.absorb(rollout)
        print(f"{collector.steps:6d} steps  return {collector.recent()[0]:6.1f}  entropy {metrics['entropy']:.3f}")
    environment.close()
    return collector.recent()[0]


if __name__ == "__main__":
    torch.set_num_threads(1)
    learn()
