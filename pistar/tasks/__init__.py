"""Tasks, one file per application; ``TASKS`` names them without importing any."""

from pistar.registry import Registry

TASKS = Registry(
    "task",
    {
        "reacher": "pistar.tasks.reacher:Reacher",
        "cartpole": "pistar.tasks.cartpole:CartPole",
        "gymnasium": "pistar.tasks.gymnasium:Gymnasium",
    },
)
