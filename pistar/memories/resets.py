"""Where a recurrence must zero its state, found once for all steps."""

from __future__ import annotations

from torch import Tensor


def rows_that_begin(is_first: Tensor) -> list[Tensor | None]:
    """For each of L steps the rows whose episode begins, [N, 1] bool; None where there is none.

    To see that there is none takes a look at the data, for which a GPU would have to wait: there every step zeroes.
    """
    columns = is_first.unsqueeze(-1)
    if is_first.device.type != "cpu":
        return list(columns)
    return [column if any_ else None for column, any_ in zip(columns, is_first.any(1).tolist(), strict=True)]
