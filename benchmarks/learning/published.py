"""What others have published: means over seeds ± their deviation where it is given, and what the figures mean.

Protocols differ, and that alone moves results a lot: a maximum over training lies above a mean of the last evaluations, and v5 of
Ant, Hopper and Walker2d pays other rewards than v3 and v4 do. HalfCheetah is the same in all.
"""

from __future__ import annotations

SOURCES = {
    "Tianshou": "v3, 10 seeds, 1M steps, best evaluation of the training (github.com/thu-ml/tianshou, examples/mujoco)",
    "XuanCe": "v5, 5 seeds, 1M steps, mean of the last 10 evaluations (github.com/agi-brain/xuance)",
    "CleanRL": "v4, 3 seeds, 1M steps, last 100 training episodes (docs.cleanrl.dev)",
    "sb3-contrib": "v3, 3 seeds, 1M steps (sb3-contrib.readthedocs.io, TRPO)",
    "Zoo": "one tuned run, its final policy; MuJoCo v3, Atari for 10M steps with v4's rules (RL Baselines3 Zoo, benchmark.md)",
}
FIGURES: dict[tuple[str, str], dict[str, str]] = {
    ("HalfCheetah-v5", "ppo"): {
        "XuanCe": "4977 ± 891",
        "Tianshou": "5784 ± 1244",
        "CleanRL": "1443 ± 46",
        "Zoo": "5819",
    },
    ("Hopper-v5", "ppo"): {"XuanCe": "2076 ± 872", "Tianshou": "2609 ± 701", "CleanRL": "2383 ± 272", "Zoo": "2410"},
    ("Walker2d-v5", "ppo"): {"XuanCe": "3871 ± 635", "Tianshou": "3589 ± 757", "CleanRL": "2288 ± 572", "Zoo": "3479"},
    ("Ant-v5", "ppo"): {"XuanCe": "1107 ± 466", "Tianshou": "3258 ± 1079", "Zoo": "1327"},
    ("Reacher-v5", "ppo"): {"XuanCe": "−5.0 ± 0.3", "Tianshou": "−4.1 ± 0.3"},
    ("HalfCheetah-v5", "trpo"): {"Tianshou": "4471", "sb3-contrib": "1803 ± 46", "Zoo": "1785"},
    ("Hopper-v5", "trpo"): {"Tianshou": "2046", "sb3-contrib": "3372 ± 215", "Zoo": "3618"},
    ("Walker2d-v5", "trpo"): {"Tianshou": "3827", "sb3-contrib": "4502 ± 234", "Zoo": "4933"},
    ("Ant-v5", "trpo"): {"Tianshou": "2867", "sb3-contrib": "3554 ± 591", "Zoo": "4982"},
    ("Reacher-v5", "trpo"): {"Tianshou": "−5.1"},
    ("HalfCheetah-v5", "npg"): {"Tianshou": "3485"},
    ("Hopper-v5", "npg"): {"Tianshou": "1915"},
    ("Walker2d-v5", "npg"): {"Tianshou": "2503"},
    ("Ant-v5", "npg"): {"Tianshou": "2358"},
    ("Reacher-v5", "npg"): {"Tianshou": "−4.5"},
    ("HalfCheetah-v5", "a2c"): {"Tianshou": "1830", "Zoo": "3041"},
    ("Hopper-v5", "a2c"): {"Tianshou": "1253", "Zoo": "733"},
    ("Walker2d-v5", "a2c"): {"Tianshou": "1092"},
    ("Ant-v5", "a2c"): {"Tianshou": "3485"},
    ("Reacher-v5", "a2c"): {"Tianshou": "−6.7"},
    ("CartPole-v1", "ppo"): {"Zoo": "500"},
    ("Acrobot-v1", "ppo"): {"Zoo": "−73.5"},
    ("Pendulum-v1", "ppo"): {"Zoo": "−172"},
    ("MountainCar-v0", "ppo"): {"Zoo": "−110"},
    ("MountainCarContinuous-v0", "ppo"): {"Zoo": "88"},
    ("CartPole-v1", "a2c"): {"Zoo": "500"},
    ("Acrobot-v1", "a2c"): {"Zoo": "−83"},
    ("Pendulum-v1", "a2c"): {"Zoo": "−163"},
    ("MountainCar-v0", "a2c"): {"Zoo": "−111"},
    ("MountainCarContinuous-v0", "a2c"): {"Zoo": "91"},
    ("Pong", "ppo"): {"Zoo": "21.0"},
    ("Pong", "a2c"): {"Zoo": "17.3"},
}


def beside(task: str, algorithm: str) -> str:
    """The published figures as a table's cell."""
    return "; ".join(f"{source} {figure}" for source, figure in FIGURES.get((task, algorithm), {}).items())
