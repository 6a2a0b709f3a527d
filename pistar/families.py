"""Distributions for Box actions by name, importing none; a family of one's own is given as ``module:Class``.

A family is called as ``family(space, **options)`` and gives the head of a Box of floats; it takes the options that it knows
of those that a policy kind has (``initial_log_std``, ``redraw``) and ignores the others.
"""

from pistar.registry import Registry

FAMILIES = Registry(
    "distribution",
    {
        "gaussian": "pistar.heads.gaussian:GaussianHead",
        "squashed": "pistar.heads.gaussian:squashed_gaussian",
        "state-gaussian": "pistar.heads.gaussian:StateGaussianHead",
        "beta": "pistar.heads.beta:BetaHead",
        "gsde": "pistar.heads.exploration:ExplorationHead",
    },
)
