"""Native kernels for dense networks on a CPU: towers, acting, the gradient of the library's own losses, Adam.

Most of a second of training a small network goes into launching operations, not into arithmetic. Here a whole minibatch
is one call: blocks of rows go through actor, loss and critic and back while they are in the cache. The C++ source is
compiled once per machine by its own compiler (`library`), and checked against torch before it is used.

Where there is no compiler, or the check fails, or a policy is of another build (`network.fits`), everything runs by torch and
autograd as it would without this package; no algorithm knows which. A fused gradient is used only for a loss that says
by ``closed_form`` what it is, and only as long as nobody overrides it.

Left out: half precision, more than two threads, memories, masks. ``PISTAR_KERNELS=off`` turns all of it off.
"""
