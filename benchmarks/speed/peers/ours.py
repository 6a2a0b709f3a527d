"""pistar by the call that users make."""

from __future__ import annotations

import measure
import own_run

job = measure.job()
adapter = {"gymnasium": {"adapter": job["adapter"]}} if job.get("adapter") else {}
own_run.report(job["task"], job, mlp={}, threads=job["threads"], **adapter)
