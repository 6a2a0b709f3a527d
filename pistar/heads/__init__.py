"""From a tower's outputs to a distribution over actions, and from an action to what the environment is given.

``action_head(space)`` chooses the head for an action space, once, when a policy is built; nothing asks for the type
of an action after that. A head says how many outputs it needs, makes the distribution from them, draws the noise that
the distribution's ``sample`` turns into actions, and converts between the policy's actions and the environment's. A
user's own space gets its head by ``@action_head.register``; for a Box of floats ``pistar.families`` names the distributions
to choose from, and takes others.

Box actions: the policy thinks in [−1, 1], which is mapped affinely to the bounds where both are finite and clipped
there on execution; the log-probability stays that of the unclipped action. A dimension with one finite bound is
clipped at it, an unbounded one is passed on.

Masks: ``head.forbid(outputs, mask)`` sets the logits of forbidden indices to −inf, before the distribution is made, and so
for acting and learning alike.

Left out: networks. A head's own weights are a state-independent log σ, and the last layer where noise needs its inputs.
"""

from pistar.heads.beta import BetaHead
from pistar.heads.bounded import HIGHEST_LOG_STD, LOWEST_LOG_STD
from pistar.heads.box import NO_BOUND, BoxActions
from pistar.heads.discrete import BernoulliHead, CategoricalHead, MultiCategoricalHead
from pistar.heads.exploration import ExplorationHead
from pistar.heads.gaussian import GaussianHead, StateGaussianHead
from pistar.heads.head import Head
from pistar.heads.joint import JointHead
from pistar.heads.masks import require_mask
from pistar.heads.registry import action_head

__all__ = [
    "HIGHEST_LOG_STD",
    "LOWEST_LOG_STD",
    "NO_BOUND",
    "BernoulliHead",
    "BetaHead",
    "BoxActions",
    "CategoricalHead",
    "ExplorationHead",
    "GaussianHead",
    "Head",
    "JointHead",
    "MultiCategoricalHead",
    "StateGaussianHead",
    "action_head",
    "require_mask",
]
