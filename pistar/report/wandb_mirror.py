"""Weights & Biases: a run's records there, online or offline.

What W&B reads from its environment holds (``WANDB_MODE=offline``, ``WANDB_PROJECT``, ``WANDB_ENTITY``, ``WANDB_DIR``, ...). Its id
is kept in ``RUN/wandb.json``, so that a run that is resumed goes on in the same place: an online one by itself, an
offline one by ``wandb sync`` of its parts, in which points that came twice are kept once.
"""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING, Any

from pistar.errors import MissingExtra
from pistar.report.sink import Record, scalars

try:
    import wandb
except ImportError as error:
    raise MissingExtra("wandb", "wandb", "--reporting.to wandb") from error

if TYPE_CHECKING:
    from pistar.run import RunDirectory


class WandbMirror:
    """A sink that logs to W&B; the step there is the number of environment steps."""

    def __init__(self, run: RunDirectory, settings: Record, resumed_at: int | None, quiet: bool) -> None:
        kept = run.path / "wandb.json"
        known = resumed_at is not None and kept.is_file()
        identity = json.loads(kept.read_text())["id"] if known else secrets.token_hex(6)
        # Off: watching the machine and the console, saving the code and the list of packages; a run directory has those.
        own = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            silent=quiet,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "pistar"),
            dir=os.environ.get("WANDB_DIR", str(run.path)),
            id=identity,
            name=os.environ.get("WANDB_NAME", run.path.name),
            config={name: dict(table) for name, table in settings.items()},
            resume="allow",
            reinit="create_new",  # one process may train several runs
            settings=own,
        )
        if not known:
            kept.write_text(json.dumps({"id": identity, "project": self._run.project, "url": self._run.url}) + "\n")

    def write(self, record: Record) -> None:
        """Log the finite numbers of a record at its step."""
        if self._run is not None:
            self._run.log(dict(scalars(record)), step=int(record["steps"]))

    def flush(self) -> None:
        """Nothing to do: a process of W&B's own sends what it was given."""

    def close(self) -> None:
        """Wait until all is sent, or written where W&B is offline; safe to call twice."""
        if self._run is not None:
            run, self._run = self._run, None
            run.finish()
