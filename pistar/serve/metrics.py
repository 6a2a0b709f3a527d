"""Counts and times of a service in Prometheus' text format.

Written here because a request is counted in a microsecond: a dictionary, a bisection. Left out: metrics of several processes.
"""

from __future__ import annotations

import contextlib
import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 10.0)  # seconds
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
START = time.time()


class Metrics:
    """What is counted while requests are answered."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()  # (route, status)
        self.observations = 0
        self.reloads: Counter[str] = Counter({"accepted": 0, "refused": 0})
        self.refused = False  # whether the newest policy could not be served, so that an older one is
        self.loaded = time.time()  # when the policy that is served was loaded
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0

    def count(self, route: str, status: int, seconds: float) -> None:
        """One request that was answered."""
        self.requests[route, status] += 1
        self._buckets[bisect_left(BUCKETS, seconds)] += 1
        self._seconds += seconds

    def text(self, gauges: Mapping[str, tuple[str, float]], policy: Mapping[str, str]) -> str:
        """The page; ``gauges`` is name -> (meaning, value) of what others know, ``policy`` the labels of what is served."""
        out = list[str]()
        family(out, "pistar_requests_total", "counter", "Requests answered, by route and status.")
        for (route, status), number in sorted(self.requests.items()):
            out.append(f'pistar_requests_total{{route="{route}",status="{status}"}} {number}')
        family(out, "pistar_request_seconds", "histogram", "Time from a request's head to its whole answer.")
        total = 0
        for bound, number in zip((*map(str, BUCKETS), "+Inf"), self._buckets, strict=True):
            total += number
            out.append(f'pistar_request_seconds_bucket{{le="{bound}"}} {total}')
        out += [f"pistar_request_seconds_sum {self._seconds:.6f}", f"pistar_request_seconds_count {total}"]
        family(out, "pistar_observations_total", "counter", "Observations acted on.")
        out.append(f"pistar_observations_total {self.observations}")
        family(out, "pistar_reloads_total", "counter", "Newer policies that were found, by what became of them.")
        out += [f'pistar_reloads_total{{outcome="{name}"}} {number}' for name, number in sorted(self.reloads.items())]
        single(out, "pistar_newest_policy_refused", "1 while the newest policy cannot be served.", int(self.refused))
        single(out, "pistar_policy_loaded_seconds", "Unix time at which the served policy was loaded.", self.loaded)
        family(out, "pistar_policy_info", "gauge", "The policy that is served.")
        out.append("pistar_policy_info{" + ",".join(f'{k}="{escaped(v)}"' for k, v in policy.items()) + "} 1")
        for name, (meaning, value) in gauges.items():
            single(out, name, meaning, value)
        family(out, "process_cpu_seconds_total", "counter", "User and system time of this process.")
        out.append(f"process_cpu_seconds_total {time.process_time():.6f}")
        with contextlib.suppress(OSError):  # where the system tells: Linux
            single(out, "process_resident_memory_bytes", "Resident memory.", resident())
        single(out, "process_start_time_seconds", "Unix time at which this process started to serve.", START)
        return "\n".join(out) + "\n"


def family(out: list[str], name: str, kind: str, meaning: str) -> None:
    """The two lines above a metric."""
    out += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]


def single(out: list[str], name: str, meaning: str, value: float) -> None:
    """A gauge without labels."""
    family(out, name, "gauge", meaning)
    out.append(f"{name} {value}")


def escaped(text: str) -> str:
    """A label's value."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def resident() -> int:
    """Bytes in memory now. Raises OSError where the system does not tell."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
