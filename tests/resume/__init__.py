"""Runs killed with ``kill -9`` and resumed equal those that were never stopped."""
