"""Worlds: the contract in ``environment`` and one adapter per kind of world."""
