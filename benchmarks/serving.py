"""What a request costs a service, and what it bears: `python benchmarks/serving.py`, three minutes.

The service has one core to itself and the load comes from another, where the machine has two. CPU time is that of the service's
process, kernel included, as its own /metrics tell. Every phase is repeated and the least disturbed is given beside all.
Writes benchmarks/results/serving.json and .md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PACKAGES = ("starlette", "uvicorn", "uvloop", "httptools", "msgspec", "onnxruntime", "numpy")
CORES = sorted(os.sched_getaffinity(0))


def on_core(core: int) -> Callable[[], None]:
    return lambda: os.sched_setaffinity(0, {core})


@contextlib.contextmanager
def service(policy: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """``pistar serve`` on the first core."""
    command = [sys.executable, "-m", "pistar", "serve", str(policy), "--port", "0", "--log-level", "warning", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=on_core(CORES[0]))
    found = re.search(r":(\d+)", (process.stdout.readline() if process.stdout else "").partition("http://")[2])
    assert found, "the service did not start"
    try:
        yield process, int(found.group(1))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def load(port: int, body: Any, **options: Any) -> dict[str, Any]:
    """`serving_load.py` on the last core, and what it cost the service."""
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not True]
    words += [f"--{name.replace('_', '-')}" for name, value in options.items() if value is True]
    command = [sys.executable, str(HERE / "serving_load.py"), "--port", str(port), "--body", json.dumps(body), *words]
    before = None if options.get("until_closed") else counted(port)
    done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=on_core(CORES[-1]))
    result: dict[str, Any] = json.loads(done.stdout)
    result["rate"] = result["requests"] / result["seconds"]
    result["load_average"] = os.getloadavg()[0]
    if before is not None and result["requests"]:
        result["cpu_microseconds"] = (counted(port) - before) / result["requests"] * 1e6
    return result


def counted(port: int) -> float:
    """Seconds of CPU time so far."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    return float(re.search(r"^process_cpu_seconds_total (\S+)", text, re.M).group(1))  # type: ignore[union-attr]


def post(port: int, path: str, body: Any) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    return json.loads(urllib.request.urlopen(request).read())


def policies(place: Path) -> dict[str, Path]:
    """Two runs of the same task, and one with a memory, exported; untrained ones cost the same."""
    made = {}
    for name, words in {
        "pole-a": ["cartpole", "--seed", "0"],
        "pole-b": ["cartpole", "--seed", "1"],
        "arm": ["arm-reach"],
        "gru": ["cartpole", "--mlp.memory", "gru"],
    }.items():
        command = [sys.executable, "-m", "pistar", "train", *words, "--steps", "2048", "--quiet"]
        subprocess.run([*command, "--evaluation.final-episodes", "1", "--out", str(place / name)], check=True)
        made[name] = place / f"{name}.onnx"
        subprocess.run(
            [sys.executable, "-m", "pistar", "export", str(place / name), "--out", str(made[name])],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return made


def measure(place: Path, seconds: float, repeats: int) -> dict[str, Any]:
    """All phases."""
    found: dict[str, Any] = {}
    files = policies(place)
    pole, arm = [0.01, -0.02, 0.03, 0.04], [0.1] * 10
    with service(files["pole-a"]) as (_, port):
        one = {"observation": pole}
        load(port, one, seconds=2)
        found["one after another"] = [load(port, one, seconds=seconds / 6) for _ in range(repeats)]
        found["one connection"] = [load(port, one, seconds=seconds / 6, connections=1) for _ in range(repeats)]
        found["2000 a second"] = [load(port, one, seconds=seconds, rate=2000, connections=32)]
        found["sampled"] = [load(port, {**one, "deterministic": False}, seconds=seconds / 6) for _ in range(repeats)]
        found["batches of 64"] = [
            load(port, {"observations": [pole] * 64}, seconds=seconds / 12) for _ in range(repeats)
        ]
    with service(files["arm"]) as (_, port):
        found["arm-reach"] = [load(port, {"observation": arm}, seconds=seconds / 6) for _ in range(repeats)]
    with service(files["gru"]) as (_, port):
        body = {"observation": pole, "session": post(port, "/v1/sessions", {})["session"]}
        found["a session of a GRU"] = [load(port, body, seconds=seconds / 6, connections=1) for _ in range(repeats)]
    found["policies replaced every second"] = [replaced(place, files, pole, seconds / 3)]
    found["SIGTERM"] = [ended(files["pole-a"], pole) for _ in range(repeats)]
    return found


def replaced(place: Path, files: dict[str, Path], pole: list[float], seconds: float) -> dict[str, Any]:
    """A newer policy again and again under 2,000 requests a second."""
    live, stop = place / "live.onnx", threading.Event()

    def put(name: str) -> None:
        shutil.copy(files[name], place / "next.onnx")
        os.replace(place / "next.onnx", live)

    def turns() -> None:
        number = 0
        while not stop.wait(1.0):
            number += 1
            put(("pole-a", "pole-b")[number % 2])

    put("pole-a")
    with service(live, "--poll", "0.1") as (_, port):
        thread = threading.Thread(target=turns)
        thread.start()
        result = load(port, {"observation": pole}, seconds=seconds, rate=2000, connections=32)
        stop.set()
        thread.join()
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        result["reloads"] = int(re.search(r'reloads_total\{outcome="accepted"\} (\d+)', text).group(1))  # type: ignore[union-attr]
    return result


def ended(policy: Path, pole: list[float]) -> dict[str, Any]:
    """SIGTERM under load: what was sent is answered, and connections end between requests."""
    with service(policy) as (process, port):
        timer = threading.Timer(2.0, lambda: process.send_signal(signal.SIGTERM))
        timer.start()
        result = load(port, {"observation": pole}, seconds=20, connections=32, until_closed=True)
        result["exit_code"] = process.wait(30)
    return result


def table(found: dict[str, Any], facts: dict[str, Any]) -> str:
    """Markdown."""
    rows = [
        "| load | requests | a second | CPU µs a request, least (all) | p50 ms | p99 ms | max ms | not 200 | failed |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, runs in found.items():
        best = min(runs, key=lambda run: run.get("cpu_microseconds", 0.0))
        costs = [f"{run['cpu_microseconds']:.0f}" for run in runs if "cpu_microseconds" in run]
        cost = f"{best['cpu_microseconds']:.0f} ({', '.join(costs)})" if costs else "–"
        times, all_ = best["milliseconds"], [run["statuses"] for run in runs]
        other = sum(number for each in all_ for status, number in each.items() if status != "200")
        failed = sum(sum(run["failures"].values()) for run in runs)
        note = f" ({best['reloads']} times)" if "reloads" in best else ""
        numbers = f"{times['p50']:.2f} | {times['p99']:.2f} | {times['max']:.1f} | {other} | {failed}"
        total = sum(run["requests"] for run in runs)
        rows.append(f"| {name}{note} | {total:,} | {best['rate']:,.0f} | {cost} | {numbers} |")
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    return "\n".join(
        [
            "# What a request costs `pistar serve`",
            "",
            f"{facts['date']}, {facts['processor']}, {facts['cores']} cores, Python {facts['python']}. Load average before: "
            f"{facts['load_average']:.1f}. {packages}.",
            "",
            f"`{facts['command']}`",
            "",
            *rows,
            "",
            "Batch 1 of a policy with two hidden layers of 64 for CartPole, where nothing else is said. The service is on one core and "
            "the load on another. CPU time is that of the service's process, kernel included. 8 connections that ask one after "
            "another, or one where it says so; 32 at 2,000 a second, timed from when a request was due. A p99 or a CPU "
            "time measured while other programs want the same cores says more of them than of the service: see the load average.",
            "",
        ]
    )


def processor() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
        return found.group(1) if found else platform.machine()
    return platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of the long phase; others are shares of it")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "serving.json")
    options = parser.parse_args()
    facts = {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "cores": len(CORES),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "command": "python benchmarks/serving.py " + " ".join(sys.argv[1:]),
        "load_average": os.getloadavg()[0],
    }
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        found = measure(Path(place), options.seconds, options.repeats)
    facts["minutes"] = round((time.monotonic() - began) / 60, 1)
    options.out.write_text(json.dumps({"facts": facts, "phases": found}, indent=1) + "\n")
    text = table(found, facts)
    options.out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
