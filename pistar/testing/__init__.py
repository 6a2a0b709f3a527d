"""Conformance suites: they say in words which rule of a contract a part of your own breaks."""

from pistar.testing.algorithms import check_algorithm
from pistar.testing.distributions import check_distribution
from pistar.testing.environments import check_environment
from pistar.testing.symmetries import check_symmetry
from pistar.testing.violation import ContractViolation

__all__ = ["ContractViolation", "check_algorithm", "check_distribution", "check_environment", "check_symmetry"]
