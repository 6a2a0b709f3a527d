"""What a conformance check raises: the rule that was broken, how, and what the rule says."""

from __future__ import annotations

from collections.abc import Mapping


class ContractViolation(AssertionError):
    """A part breaks its contract; ``rule`` is the short name of the rule, one of the check's documented ones."""

    def __init__(self, rule: str, finding: str, rules: Mapping[str, str]) -> None:
        super().__init__(f"{rule}: {finding}\n  the rule: {rules[rule]}")
        self.rule = rule
