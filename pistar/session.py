"""One iteration of training, collect, improve, absorb, and the state that iterations share.

A session wires the parts of an experiment together: environment, policy, learner, collector, algorithm. It knows nothing of
files, reports or evaluations, which are the loop's (`pistar.training`); `checkpoint` gives all that `restore` needs to go on
bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pistar import graphs, networks, seeding, symmetry
from pistar.collector import Collector
from pistar.envs.environment import Environment
from pistar.errors import CheckpointError, UsageError
from pistar.experiment import Experiment
from pistar.lagged import LaggedCollector
from pistar.learner import Learner
from pistar.mirroring import Mirrors
from pistar.normalization import RewardScale
from pistar.policy import Policy
from pistar.replay import Replay
from pistar.rollout import Rollout
from pistar.tree import map_leaves

if TYPE_CHECKING:
    from pistar.grouped_session import GroupedSession


class Session:
    """The parts of a running experiment, wired together, and their common state."""

    def __init__(self, experiment: Experiment, environment: Environment | None = None, resumed: bool = False) -> None:
        """``environment`` is given where it is not the task's as it stands (`pistar.grouped_session`).

        ``resumed``: the algorithm's state will be a checkpoint's, given to `restore`, and is not made anew.
        """
        training, seed = experiment.training, experiment.training.seed
        if training.device == "cuda" and not torch.cuda.is_available():
            raise UsageError(f"device is 'cuda', but torch {torch.__version__} finds no CUDA here; use --device cpu")
        torch.set_num_threads(1)  # so that the first weights have the same bits whatever the threads
        self.experiment, self.algorithm = experiment, experiment.algorithm
        self.environment = lanes_of(experiment) if environment is None else environment
        generator = torch.Generator().manual_seed(seeding.derive(seed, "weights"))
        if training.device != self.environment.device.type:
            raise UsageError(
                f"{self.environment.name} steps its lanes on the {self.environment.device.type}, but device is "
                f"{training.device!r}; leave --device out (it moves worlds written in torch: `pistar tasks`)"
            )
        kind = self.algorithm.policy_kind(experiment.policy)
        self.policy: Policy = kind.build(self.environment.spaces, generator).to(self.environment.device)
        networks.set_precision(self.policy, training.precision)
        capture = graphs.capture_for(training)
        self.learner = Learner(
            self.policy,
            learning_rate=training.learning_rate.at(0.0),
            optimizer=training.optimizer,
            adam_epsilon=training.adam_epsilon,
            max_gradient_norm=training.max_gradient_norm,
            seed=seeding.derive(seed, "minibatches"),
            threads=training.threads,
            capture=capture,
        )
        # What is left of torch beside the kernels is too small to share, and its waiting threads take cores from theirs.
        torch.set_num_threads(1 if self.learner.native else training.threads)
        discount = getattr(self.algorithm, "discount", 0.99)
        device = self.environment.device
        scale = RewardScale(self.environment.lanes, discount, device) if training.normalize_rewards else None
        collector = Collector(self.environment, self.policy, seed=seed, reward_scale=scale, capture=capture)
        self.collector: Collector | LaggedCollector = collector
        if training.lag > 0:
            self.collector = LaggedCollector(collector, training.lag, training.overlap)
        symmetries = symmetry.find(training.symmetry, experiment.task)
        self.mirrors = Mirrors(symmetries, self.policy) if symmetries else None
        self.replay = None
        if self.algorithm.experience == "replay":
            self.replay = Replay(
                self.algorithm.replay_capacity, seeding.derive(seed, "replay"), self.environment.device
            )
        self.lanes = self.environment.lanes * (1 + len(symmetries))  # that are learned from
        self.state = {} if resumed else self.algorithm.init(self.policy, self.lanes)
        self.iteration, self.seconds, self.best = 0, 0.0, float("-inf")
        torch.manual_seed(seeding.derive(seed, "torch"))  # for modules that draw from the global stream (dropout)

    def reconsider(self) -> None:
        """Make the algorithm's state anew, of other weights than the policy was built with."""
        self.state = self.algorithm.init(self.policy, self.lanes)

    @property
    def learners(self) -> list[Learner]:
        """All that move parameters: here but one."""
        return [self.learner]

    @property
    def steps(self) -> int:
        """Steps that the environment has taken; entries whose action it ignored are none."""
        return self.collector.steps

    @property
    def progress(self) -> float:
        """Fraction of the planned steps that is done."""
        training = self.experiment.training
        return self.iteration * training.lanes * training.horizon / (training.schedule_steps or training.steps)

    def iterate(self, cut: bool) -> tuple[Rollout, dict[str, float]]:
        """One iteration; ``cut`` ends all episodes with its last step."""
        rollout = self.collector.collect(self.experiment.training.horizon)
        if cut:
            self.collector.cut(rollout)
        return rollout, self.learn(rollout)

    def learn(self, rollout: Rollout) -> dict[str, float]:
        """What follows collecting: improve, then absorb."""
        training = self.experiment.training
        self.learner.set_learning_rate(training.learning_rate.at(self.progress))
        if training.critic_learning_rate is not None:
            self.learner.set_learning_rate(training.critic_learning_rate.at(self.progress), "critic")
        whole = rollout if self.mirrors is None else self.mirrors.augmented(rollout)
        experience = whole if self.replay is None else self.replay.add(whole)
        metrics = self.improve(experience)
        self.collector.absorb(whole)
        self.iteration += 1
        return metrics

    def improve(self, experience: Any) -> dict[str, float]:
        """Learn from a rollout or a replay."""
        self.state, metrics = self.algorithm.improve(self.learner, experience, self.state, self.progress)
        self.learner.settle()
        return metrics

    def _placed(self, value: Any) -> Any:
        """A leaf of a checkpoint, which lies on the CPU, where the session's tensors are."""
        return value.to(self.environment.device) if isinstance(value, torch.Tensor) else value

    def close(self) -> None:
        """End what collects ahead, then the environment."""
        self.collector.close()
        self.environment.close()

    def checkpoint(self) -> dict[str, Any]:
        """The whole state, for a checkpoint."""
        state: dict[str, Any] = {
            "learner": self.learner.state(),
            "collector": self.collector.state(),
            "algorithm": self.state,
            "iteration": self.iteration,
            "seconds": self.seconds,
            "best": self.best,
            "torch": torch.get_rng_state(),
        }
        if self.replay is not None:
            state["replay"] = self.replay.state()
        if self.mirrors is not None:
            state["mirrors"] = self.mirrors.state()
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's state."""
        try:
            self.learner.load_state(state["learner"])
            self.collector.load_state(state["collector"])
            self.state = map_leaves(self._placed, state["algorithm"])
            if self.replay is not None:
                self.replay.load_state(state["replay"])
            if self.mirrors is not None:
                self.mirrors.load_state(state["mirrors"])
            self.iteration, self.seconds, self.best = state["iteration"], state["seconds"], float(state["best"])
            torch.set_rng_state(state["torch"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"the checkpoint does not fit the experiment beside it ({error!r})") from error


def lanes_of(experiment: Experiment) -> Environment:
    """The environment that an experiment learns in."""
    task, training = experiment.task, experiment.training
    return task.for_learning(task.make(training.lanes, training.execution, training=training.stagger))


def adopt(session: Session | GroupedSession, policy: Policy) -> None:
    """Start from the weights and moments of another policy of the same kind and spaces."""
    if policy.spaces != session.policy.spaces:
        raise UsageError(
            f"the policy to start from is for {policy.spaces}, this task has {session.policy.spaces}; "
            "start from a policy of the same task"
        )
    try:
        with torch.no_grad():
            session.policy.load_state_dict(policy.state_dict())
    except RuntimeError as error:
        raise UsageError(
            f"the policy to start from is built otherwise: {error}; give the same --policy settings"
        ) from error
    session.reconsider()
