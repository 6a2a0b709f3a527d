"""Algorithms, one short file each; ``ALGORITHMS`` names them without importing any."""

from pistar.registry import Registry

ALGORITHMS = Registry(
    "algorithm",
    {
        "reinforce": "pistar.algorithms.reinforce:Reinforce",
        "a2c": "pistar.algorithms.a2c:A2C",
        "ppo": "pistar.algorithms.ppo:PPO",
        "ppg": "pistar.algorithms.ppg:PPG",
        "impala": "pistar.algorithms.impala:IMPALA",
    },
)
