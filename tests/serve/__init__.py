"""Tests of the service; what they share is in ``running``."""
