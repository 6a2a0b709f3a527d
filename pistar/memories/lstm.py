"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000), as ``nn.LSTM``.

    i, f, o = σ(W x + U h + b)    g = tanh(W_g x + U_g h + b)    c' = f c + i g    h' = o tanh(c')

The forget gate's bias starts at 1, so that a new memory keeps what it has seen (Jozefowicz, Zaremba & Sutskever 2015). It is
computed as the GRU's is: `pistar.memories.gru` says how.
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

State = dict[str, Tensor]


class LSTM(Memory):
    """State: h, which is also what it gives, and c: [N, size] each. Parameters as in ``nn.LSTM``: gates i, f, g, o."""

    def __init__(self, inputs: int, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.size = size
        self.weight_x = orthogonal_gates(4, size, inputs, generator)
        self.weight_h = orthogonal_gates(4, size, size, generator)
        self.bias = nn.Parameter(torch.zeros(4 * size))
        with torch.no_grad():
            self.bias[size : 2 * size] = 1.0

    def initial(self, lanes: int) -> State:
        """Zeros."""
        return {"h": self.weight_h.new_zeros((lanes, self.size)), "c": self.weight_h.new_zeros((lanes, self.size))}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One step."""
        h, c = torch.lstm_cell(x, (state["h"], state["c"]), self.weight_x, self.weight_h, self.bias)
        return h, {"h": h, "c": c}

    def forward(self, x: Tensor, state: State, is_first: Tensor) -> tuple[Tensor, State]:
        """L steps: features [L, N, size] and the states."""
        shares = functional.linear(x, self.weight_x, self.bias)
        given = (shares, self.weight_h, state["h"], state["c"], is_first)
        y, c = recurrence(*given) if in_plain_torch() else Recurrence.apply(*given)  # type: ignore[no-untyped-call]
        return y, {"h": y.detach(), "c": c.detach()}


def recurrence(shares: Tensor, weight: Tensor, h: Tensor, c: Tensor, is_first: Tensor) -> tuple[Tensor, Tensor]:
    """The equations of the module's head, as torch differentiates them: shares [L, N, 4H] -> h and c [L, N, H]."""
    after, cells = [], []
    for share, begins in zip(shares, is_first, strict=True):
        h, c = (x.masked_fill(begins.unsqueeze(-1), 0.0) for x in (h, c))
        i, f, g, o = (share + functional.linear(h, weight)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        after.append(h)
        cells.append(c)
    return torch.stack(after), torch.stack(cells)


class Recurrence(torch.autograd.Function):
    """`recurrence` with its gradient in closed form; by torch where a graph of the backward pass is wanted."""

    @staticmethod
    def forward(ctx: Any, shares: Tensor, weight: Tensor, h: Tensor, c: Tensor, is_first: Tensor) -> Any:
        """[L, N, 4H] -> h and c [L, N, H]; c only says what is remembered and passes no gradient."""
        steps, rows, width = shares.shape
        size, transposed, start, begin = width // 4, weight.t().contiguous(), (h, c), rows_that_begin(is_first)
        y, cells, bent = (shares.new_empty((steps, rows, size)) for _ in range(3))
        gates = shares.new_empty((steps, rows, width))
        # Rows are taken apart once: indexing in the loop would cost as much as the arithmetic.
        taken = [
            x.unbind(0) for x in (shares, gates, y, cells, bent, gates[:, :, : 2 * size], *torch.split(gates, size, -1))
        ]
        for t, (share, now, after, cell, tanh, doors, i, f, g, o) in enumerate(zip(*taken, strict=True)):
            if (zeroed := begin[t]) is not None:
                h, c = h.masked_fill(zeroed, 0.0), c.masked_fill(zeroed, 0.0)
            torch.addmm(share, h, transposed, out=now)
            doors.sigmoid_()
            c = torch.addcmul(i * g.tanh_(), f, c, out=cell)
            h = torch.mul(o.sigmoid_(), torch.tanh(c, out=tanh), out=after)
        before, kept = (
            torch.cat((x.unsqueeze(0), later[:-1])).masked_fill_(is_first.unsqueeze(-1), 0.0)
            for x, later in zip(start, (y, cells), strict=True)
        )
        ctx.begin = begin
        ctx.mark_non_differentiable(cells)
        ctx.save_for_backward(shares, weight, *start, is_first, before, kept, gates, bent)
        return y, cells

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """With respect to shares, weight and the first h and c."""
        dy = gradients[0]
        shares, weight, h, c, is_first, before, kept, gates, bent = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: what follows must be differentiable itself
            given = (shares, weight, h, c)
            wanted = [x for x in given if x.requires_grad]
            found = iter(torch.autograd.grad(recurrence(*given, is_first)[0], wanted, dy, create_graph=True))
            return (*(next(found) if x.requires_grad else None for x in given), None)
        steps, rows, size = bent.shape
        i, f, g, o = torch.split(gates, size, -1)
        through = o * (1 - bent.square())  # dh' / dc'
        cell = torch.stack((g * i * (1 - i), kept * f * (1 - f), i * (1 - g.square())), 2)  # dc' / d(i, f, g)
        out = bent * o * (1 - o)  # dh' / d(argument of o)
        dgates = shares.new_empty((steps, rows, 4, size))
        taken = [x.unbind(0) for x in (dy, through, cell, out, f, dgates[:, :, :3], dgates[:, :, 3])]
        every = list(zip(*taken, dgates.view(steps, rows, 4 * size).unbind(0), ctx.begin, strict=True))
        dh, dc = torch.zeros_like(h), torch.zeros_like(c)
        for given, slope, factor, last, stays, doors, door, flat, begins in reversed(every):
            dh = dh + given
            dc = torch.addcmul(dc, dh, slope)
            torch.mul(dc.unsqueeze(1), factor, out=doors)
            torch.mul(dh, last, out=door)
            dh, dc = flat @ weight, dc * stays
            if begins is not None:
                dh, dc = dh.masked_fill(begins, 0.0), dc.masked_fill(begins, 0.0)
        flat = dgates.view(steps * rows, 4 * size)
        return dgates.view(shares.shape), flat.t() @ before.view(steps * rows, size), dh, dc, None
