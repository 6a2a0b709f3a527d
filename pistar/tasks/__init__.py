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
        "gymnasium": "pistar.tasks.gymnasium:Gymnasium",
        "atari": "pistar.tasks.atari:Atari",
        "pettingzoo": "pistar.tasks.pettingzoo:PettingZoo",
        "simulator": "pistar.tasks.simulator:Simulator",
    },
)
