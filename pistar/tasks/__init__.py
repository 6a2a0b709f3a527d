"""Tasks, one file per application; ``TASKS`` names them without importing any."""

from pistar.registry import Registry

TASKS = Registry(
    "task",
    {
        "arm-joint": "pistar.tasks.arm_joint:ArmJoint",
        "arm-joint-open": "pistar.tasks.arm_joint:ArmJointOpen",
        "arm-reach": "pistar.tasks.arm_reach:ArmReach",
        "reacher": "pistar.tasks.reacher:Reacher",
        "cartpole": "pistar.tasks.cartpole:CartPole",
        "pendulum": "pistar.tasks.pendulum:Pendulum",
        "recall-corridor": "pistar.tasks.puzzles:RecallCorridor",
        "masked-grid": "pistar.tasks.puzzles:MaskedGrid",
        "recall-grid": "pistar.tasks.puzzles:RecallGrid",
        "dark-catch": "pistar.tasks.puzzles:DarkCatch",
        "mixed-gearbox": "pistar.tasks.puzzles:MixedGearbox",
        "pair-pursuit": "pistar.tasks.puzzles_agents:PairPursuit",
        "word-signals": "pistar.tasks.puzzles_agents:WordSignals",
        "recall-turns": "pistar.tasks.puzzles_agents:RecallTurns",
        "gymnasium": "pistar.tasks.gymnasium:Gymnasium",
        "atari": "pistar.tasks.atari:Atari",
        "pettingzoo": "pistar.tasks.pettingzoo:PettingZoo",
        "simulator": "pistar.tasks.simulator:Simulator",
    },
)
