"""pistar: the policy that maximises J(θ) = E[Σ γᵗ rₜ], climbed to by policy gradient."""

__version__ = "0.1.0"
