"""Policy kinds, one file each; ``POLICIES`` names them without importing any."""

from pistar.registry import Registry

POLICIES = Registry(
    "policy",
    {
        "mlp": "pistar.policies.mlp:MLP",
        "linear-softmax": "pistar.policies.linear_softmax:LinearSoftmax",
    },
)
