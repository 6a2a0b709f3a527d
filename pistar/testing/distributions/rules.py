"""The rules of distributions and their heads, in a sentence each."""

from __future__ import annotations

from typing import Never

from pistar.testing.violation import ContractViolation

RULES = {
    "interface": "a Head makes a Distribution of [..., size]; every result has the batch's shape and the outputs' precision",
    "weights": "two heads made alike are equal, and one that takes over another's state does what that one did",
    "batch": "detached gives the same distribution, cut up like the batch: rows of it are the distributions of the rows",
    "rows": "what is said of one row of a batch does not depend on the others",
    "noise": "an action is a function of outputs and noise, and any row of one draw of noise can be replayed by itself",
    "environment": "to_environment gives elements of the space, and from_environment leads back to them",
    "masks": "forbid sets what the mask forbids to −inf and leaves the rest; it is never drawn and makes nothing NaN",
    "normalisation": "probabilities sum to 1; over a Box's interior a density integrates to the share of samples there",
    "samples": "samples are distributed as log_prob says: E[∇ log π(a)] = 0, and their distribution function is its integral",
    "entropy": "entropy is the mean of −log π(a)",
    "divergence": "kl is the mean of log π(a) − log π'(a): never negative, and 0 to itself",
    "mode": "no sample is likelier than the mode; where a density has no sensible peak, the mode is the median",
    "gradients": "gradients of log_prob, entropy and kl, with respect to outputs and weights, are those of finite differences",
    "precision": "single precision agrees with double",
    "extremes": "outputs of ±1e4 and weights of ±50 give finite actions, log-probabilities, entropies and gradients",
    "nan": "an output that is NaN makes the log-probability NaN, so that nothing is learned from it",
}


def violate(rule: str, finding: str) -> Never:
    """Raise ContractViolation for a rule of this list."""
    raise ContractViolation(rule, finding, RULES)
