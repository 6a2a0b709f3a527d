"""The symmetry of Gymnasium's CartPole-v1: left is right in a mirror. See docs/how-to/use-a-symmetry.md."""

from pistar.symmetry import Indices, Signed, Symmetry

SEEN = Signed((-1, -1, -1, -1))  # position, velocity, angle, angular velocity
POLE = Symmetry("left and right", SEEN, Indices((1, 0)))  # pushes to the left and to the right change places
