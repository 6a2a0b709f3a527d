"""MLflow: a run's records on a tracking server, or in a database file.

``MLFLOW_TRACKING_URI`` says where (MLflow's own default where it is unset: ``mlflow.db`` here) and ``MLFLOW_EXPERIMENT_NAME``
in which of its experiments ("pistar"). The run's id there is kept in ``RUN/mlflow.json``; a run that is resumed goes on in the same place,
and points that are there already are not sent again.

Records are sent by a thread, many at a time: a call takes a database 60 ms, whether it holds one number or hundreds.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from threading import Thread
from typing import TYPE_CHECKING

from pistar import __version__
from pistar.errors import MissingExtra
from pistar.report.sink import Record, scalars

try:
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient
except ImportError as error:
    raise MissingExtra("mlflow", "mlflow", "--reporting.to mlflow") from error

if TYPE_CHECKING:
    from pistar.run import RunDirectory

MOST = 1000  # metrics in a call, which is what servers take
PARAMS = 100  # parameters in a call
MARKS = ("time/steps_per_second", "evaluation/mean")  # the last numbers of a record of each sort
LONGEST = 5.0  # seconds between calls
BEHIND = 200_000  # metrics that may wait for a server that does not answer
PATIENCE = 60.0  # seconds that a run waits at its end
LENGTH = 6000  # characters of a parameter's value that servers take


class MlflowMirror:
    """A sink that logs metrics to MLflow; the step there is the number of environment steps."""

    def __init__(self, run: RunDirectory, settings: Record, resumed_at: int | None, quiet: bool) -> None:
        self._client = MlflowClient()
        kept = run.path / "mlflow.json"
        if resumed_at is not None and kept.is_file():
            self._id = str(json.loads(kept.read_text())["run_id"])
            self._seen = {name: self._last_step(name) for name in MARKS}
            self._client.update_run(self._id, status="RUNNING")
        else:
            self._id, self._seen = self._create(run.path.name, settings), {}
            kept.write_text(json.dumps({"run_id": self._id}) + "\n")
        self._waiting: list[Metric] = []
        self._sent, self._complete, self._closed = time.monotonic(), False, False
        self._call: Call | None = None

    def write(self, record: Record) -> None:
        """Take the finite numbers of a record, to be sent with others."""
        steps, now = int(record["steps"]), int(time.time() * 1000)
        named = {name: value for name, value in scalars(record) if name != "steps"}  # they are the axis
        self._complete = self._complete or "final/mean" in named
        if any(name in named and steps <= last for name, last in self._seen.items()):
            return
        self._waiting += [Metric(name, value, now, steps) for name, value in named.items()]
        if len(self._waiting) > BEHIND:
            raise TimeoutError(f"MLflow has not taken {BEHIND:,} numbers")
        if len(self._waiting) >= MOST or time.monotonic() - self._sent > LONGEST:
            self._send()

    def flush(self) -> None:
        """Wait until all that was written is there."""
        while self._call is not None or self._waiting:
            if self._call is not None:
                self._call.wait(PATIENCE)
            self._send()

    def close(self) -> None:
        """Send what is left and say how the run ended: FINISHED, or KILLED where it can be resumed."""
        if not self._closed:
            self._closed = True
            self.flush()
            self._client.set_terminated(self._id, "FINISHED" if self._complete else "KILLED")

    def _send(self) -> None:
        """Begin the next call where the last one has ended; its error is raised here."""
        if self._call is not None:
            if not self._call.ended():
                return
            self._call = None
        if self._waiting:
            some, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            self._sent = time.monotonic()
            self._call = Call(lambda: self._client.log_batch(self._id, metrics=some))

    def _create(self, name: str, settings: Record) -> str:
        where = os.environ.get("MLFLOW_EXPERIMENT_NAME", "pistar")
        experiment = self._client.get_experiment_by_name(where)
        number = self._client.create_experiment(where) if experiment is None else experiment.experiment_id
        identity = str(self._client.create_run(number, run_name=name).info.run_id)
        flat = [(f"{table}.{key}", value) for table, values in settings.items() for key, value in values.items()]
        params = [Param(key, str(value)[:LENGTH]) for key, value in flat]
        tags = [RunTag("pistar.version", __version__)]
        for start in range(0, len(params), PARAMS):
            self._client.log_batch(identity, params=params[start : start + PARAMS], tags=tags)
        return identity

    def _last_step(self, metric: str) -> int:
        """The last step of a metric there; -1 where there is none."""
        return max((point.step for point in self._client.get_metric_history(self._id, metric)), default=-1)


class Call:
    """One call in a thread of its own, which no end of the process waits for."""

    def __init__(self, what: Callable[[], object]) -> None:
        self._what = what
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._what()
        except BaseException as error:  # raised in the thread that asks
            self._error = error

    def ended(self) -> bool:
        """Whether it has; raises its error."""
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        """Until it has ended; TimeoutError after so many seconds."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise TimeoutError(f"MLflow did not answer within {seconds:.0f} s")
