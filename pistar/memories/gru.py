"""The gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), in the form of cuDNN and of torch's ``nn.GRU``.

    r = σ(W_r x + U_r h + b)    z = σ(W_z x + U_z h + b)    n = tanh(W_n x + b + r (U_n h + b'))    h' = (1 − z) n + z h

Over L steps the inputs' products are one matrix product, and the recurrence with its resets is one differentiable function
whose backward pass is written out: every pre-activation's gradient is the one of h' times a factor that the forward pass
knows, so that a step backwards is three operations instead of the twenty of a recorded graph.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pistar.kernels.tower import in_plain_torch
from pistar.memories.memory import Memory
from pistar.memories.resets import rows_that_begin
from pistar.networks import orthogonal_gates


class GRU(Memory):
    """State: h [N, size], which is also what it gives. Parameters as in ``nn.GRU``: gates r, z, n one below the other."""

    def __init__(self, inputs: int, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.size = size
        self.weight_x = orthogonal_gates(3, size, inputs, generator)
        self.weight_h = orthogonal_gates(3, size, size, generator)
        self.bias_x, self.bias_h = nn.Parameter(torch.zeros(3 * size)), nn.Parameter(torch.zeros(3 * size))

    def initial(self, lanes: int) -> Tensor:
        """Zeros [N, size]."""
        return self.weight_h.new_zeros((lanes, self.size))

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step."""
        after = torch.gru_cell(x, state, self.weight_x, self.weight_h, self.bias_x, self.bias_h)
        return after, after

    def forward(self, x: Tensor, state: Tensor, is_first: Tensor) -> tuple[Tensor, Tensor]:
        """L steps: features [L, N, size], which are the states too."""
        shares = functional.linear(x, self.weight_x, self.bias_x)
        if in_plain_torch():
            y = recurrence(shares, self.weight_h, self.bias_h, state, is_first)
        else:
            y = Recurrence.apply(shares, self.weight_h, self.bias_h, state, is_first)  # type: ignore[no-untyped-call]
        return y, y.detach()


def recurrence(shares: Tensor, weight: Tensor, bias: Tensor, h: Tensor, is_first: Tensor) -> Tensor:
    """The equations of the module's head, as torch differentiates them: inputs' shares [L, N, 3H] -> h [L, N, H]."""
    after = []
    for share, begins in zip(shares, is_first, strict=True):
        h = h.masked_fill(begins.unsqueeze(-1), 0.0)
        gates = functional.linear(h, weight, bias)
        (xr, xz, xn), (hr, hz, hn) = share.chunk(3, -1), gates.chunk(3, -1)
        r, z = (xr + hr).sigmoid(), (xz + hz).sigmoid()
        n = (xn + r * hn).tanh()
        h = n + z * (h - n)
        after.append(h)
    return torch.stack(after)


class Recurrence(torch.autograd.Function):
    """`recurrence` with its gradient in closed form; by torch where a graph of the backward pass is wanted."""

    @staticmethod
    def forward(ctx: Any, shares: Tensor, weight: Tensor, bias: Tensor, h: Tensor, is_first: Tensor) -> Tensor:
        """[L, N, 3H] -> [L, N, H]."""
        steps, rows, width = shares.shape
        size, transposed, start, begin = width // 3, weight.t().contiguous(), h, rows_that_begin(is_first)
        n, y = (shares.new_empty((steps, rows, size)) for _ in range(2))
        gates = shares.new_empty((steps, rows, width))
        # Rows are taken apart once: indexing in the loop would cost as much as the arithmetic.
        taken = [x.unbind(0) for x in (shares[:, :, : 2 * size], shares[:, :, 2 * size :], gates, n, y)]
        parts = [x.unbind(0) for x in (gates[:, :, : 2 * size], *torch.split(gates, size, -1))]
        for t, (share, new, now, bent, after, rz, r, z, hn) in enumerate(zip(*taken, *parts, strict=True)):
            if (zeroed := begin[t]) is not None:
                h = h.masked_fill(zeroed, 0.0)
            torch.addmm(bias, h, transposed, out=now)
            rz.add_(share).sigmoid_()
            h = torch.lerp(torch.addcmul(new, r, hn, out=bent).tanh_(), h, z, out=after)
        before = torch.cat((start.unsqueeze(0), y[:-1])).masked_fill_(is_first.unsqueeze(-1), 0.0)
        ctx.begin = begin
        ctx.save_for_backward(shares, weight, bias, start, is_first, before, gates, n)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """With respect to shares, weight, bias and the first h."""
        (dy,) = gradients
        shares, weight, bias, h, is_first, before, gates, n = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: what follows must be differentiable itself
            given = (shares, weight, bias, h)
            wanted = [x for x in given if x.requires_grad]
            found = iter(torch.autograd.grad(recurrence(*given, is_first), wanted, dy, create_graph=True))
            return (*(next(found) if x.requires_grad else None for x in given), None)
        steps, rows, size = n.shape
        r, z, hn = torch.split(gates, size, -1)
        new = (1 - z) * (1 - n.square())  # dh' / d(argument of tanh)
        shared = torch.stack((new * hn * r * (1 - r), (before - n) * z * (1 - z), new * r), 2)  # dh' / d(U h + b)
        dh, dgates = torch.empty_like(n), shares.new_empty((steps, rows, 3, size))
        taken = [x.unbind(0) for x in (dy, dh, dh.unsqueeze(2), shared, dgates, dgates.view(steps, rows, 3 * size), z)]
        every = list(zip(*taken, ctx.begin, strict=True))
        carried = torch.zeros_like(h)
        for given, now, column, factor, part, flat, kept, begins in reversed(every):
            torch.add(carried, given, out=now)
            torch.mul(column, factor, out=part)
            carried = torch.addmm(now * kept, flat, weight)
            if begins is not None:
                carried = carried.masked_fill(begins, 0.0)
        flat = dgates.view(steps * rows, 3 * size)
        dweight, dbias = flat.t() @ before.view(steps * rows, size), flat.sum(0)
        dshares = dgates.clone()
        torch.mul(dh, new, out=dshares[:, :, 2])
        return dshares.view(shares.shape), dweight, dbias, carried, None
