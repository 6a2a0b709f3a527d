"""Algorithms, one short file each; ``ALGORITHMS`` names them without importing any."""

from pistar.registry import Registry

ALGORITHMS = Registry(
    "algorithm",
    {
        "reinforce": "pistar.algorithms.reinforce:Reinforce",
        "a2c": "pistar.algorithms.a2c:A2C",
        "ppo": "pistar.algorithms.ppo:PPO",
        "ppo-penalty": "pistar.algorithms.ppo_penalty:PPOPenalty",
        "spo": "pistar.algorithms.spo:SPO",
        "npg": "pistar.algorithms.npg:NPG",
        "trpo": "pistar.algorithms.trpo:TRPO",
        "ppg": "pistar.algorithms.ppg:PPG",
        "impala": "pistar.algorithms.impala:IMPALA",
        "distillation": "pistar.algorithms.distillation:Distillation",
    },
)
