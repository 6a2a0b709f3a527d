"""pistar with and without a memory, on CartPole that shows no velocities."""

from __future__ import annotations

import measure
import own_run

job = measure.job()
memory = {key: job[key] for key in ("memory", "memory_size", "segment", "shared")} if job["memory"] != "none" else {}
own_run.report("position_cartpole:PositionCartPole", job, mlp=memory, gymnasium={"adapter": "lanes"})
