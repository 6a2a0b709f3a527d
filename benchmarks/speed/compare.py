"""How fast pistar trains beside its peers: the same task and settings, one core, one run after another in turn.

    python benchmarks/speed/compare.py [--rows cartpole ...] [--peers sb3 sbx] [--seeds 3] [--core 0]

Every peer has a virtual environment of its own under ``--environments``, made on first use; one that cannot be installed
is left out, with the reason. A round runs every entry once with one seed, so that a machine that becomes slower does so
for all of them. Printed and kept in ``benchmarks/results/NAME.json`` and ``.md``: steps per second (wall clock from the call
that trains to its last update, imports excluded), the ratio to Stable-Baselines3 within the same round, peak memory, time
of the imports, and the mean return of the last 100 training episodes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
CONSTRAINTS = HERE.parent.parent / "constraints.txt"
REFERENCE = "sb3"
PEERS: dict[str, tuple[str, list[str]]] = {  # name -> its script, what it needs
    "sb3": ("sb3.py", ["stable-baselines3", "gymnasium[mujoco]", "torch"]),
    "sbx": ("sb3.py", ["sbx-rl", "gymnasium[mujoco]", "torch"]),
    "skrl": ("skrl_peer.py", ["skrl", "gymnasium[mujoco]", "torch"]),
    "rsl_rl": ("rsl_rl_peer.py", ["rsl-rl-lib", "gymnasium[mujoco]", "torch"]),
    "cleanrl": ("cleanrl_peer.py", ["gymnasium", "torch", "tyro", "tensorboard"]),
    "pufferlib": ("pufferlib_peer.py", ["pufferlib==3.0.0", "torch"]),
    "purejaxrl": ("purejaxrl_peer.py", ["jax", "flax", "distrax", "optax", "gymnax==0.0.8", "brax", "navix"]),
}
CHECKOUTS = ("cleanrl", "purejaxrl")  # read from a checkout that is named, never installed
# Compiled against the torch of their environment: what their build needs first; peers/NAME_build/ is on its path.
BUILT = {"pufferlib": ["torch", "numpy<2", "setuptools", "wheel", "cython"]}
CONTINUOUS_ONLY, DISCRETE_ONLY = ("rsl_rl",), ("cleanrl", "purejaxrl", "pufferlib")  # what their scripts here can run
BATCHED = ("sb3", "rsl_rl")  # run MuJoCo twice: as installed, and on pistar's batch of simulations
CARTPOLE = {"lanes": 8, "horizon": 128, "epochs": 4, "minibatch": 256, "learning_rate": 2.5e-4, "entropy_weight": 0.01}
MUJOCO = {"lanes": 8, "horizon": 256, "epochs": 10, "minibatch": 512, "learning_rate": 3e-4, "entropy_weight": 0.0}
ALONE = {**MUJOCO, "lanes": 1, "horizon": 2048, "minibatch": 64}


@dataclass(frozen=True)
class Row:
    """One task with its settings, and the ways in which pistar can run it."""

    task: str
    steps: int
    settings: dict[str, Any]
    ways: dict[str, dict[str, Any]] = field(default_factory=lambda: {"pistar": {}})
    normalize: bool = False


ROWS: dict[str, Row] = {
    "cartpole": Row(
        "CartPole-v1",
        102_400,
        CARTPOLE,
        {
            "pistar, lanes": {"adapter": "lanes"},
            "pistar, vector": {"adapter": "vector"},
            "pistar, torch-native": {"task": "cartpole", "adapter": None},
        },
    ),
    "cartpole-1M": Row(
        "CartPole-v1", 1_024_000, CARTPOLE, {"pistar, torch-native": {"task": "cartpole", "adapter": None}}
    ),
    "halfcheetah": Row("HalfCheetah-v5", 102_400, MUJOCO, normalize=True),
    "reacher": Row("Reacher-v5", 102_400, MUJOCO, normalize=True),
    "halfcheetah-1": Row("HalfCheetah-v5", 40_960, ALONE, normalize=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=[name for name in ROWS if name != "cartpole-1M"])
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=[REFERENCE])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="instead of each row's own number")
    parser.add_argument("--name", default="speed", help="of the results' files")
    parser.add_argument("--core", type=int, default=0, help="every run is pinned to it")
    parser.add_argument("--checkout", nargs="*", default=[], metavar="PEER=PATH", help="where CleanRL, PureJaxRL lie")
    parser.add_argument("--environments", type=Path, default=Path.home() / ".cache" / "pistar" / "peers")
    chosen = parser.parse_args()
    checkouts = dict(each.split("=", 1) for each in chosen.checkout)
    for name in [name for name in chosen.peers if name in CHECKOUTS and name not in checkouts]:
        print(f"{name} is left out: give its checkout, --checkout {name}=PATH")
        chosen.peers.remove(name)
    pythons = {name: python for name in chosen.peers if (python := prepare(name, chosen.environments)) is not None}
    raw = []
    for name in chosen.rows:
        for seed in range(chosen.seeds):
            for entry, (python, script, job) in entries(ROWS[name], pythons, checkouts).items():
                job |= {"seed": seed, "steps": chosen.steps or ROWS[name].steps}
                found = run(python, script, job, chosen.core)
                noted = {key: value for key, value in job.items() if key != "checkout"}
                raw.append({"row": name, "entry": entry, "seed": seed, "job": noted, **found})
                print(f"{name}, seed {seed}, {entry}: {raw[-1].get('error') or speed(raw[-1])}", flush=True)
    whole = {
        "name": chosen.name,
        "command": command(chosen),
        "processor": processor(),
        "python": platform.python_version(),
    }
    whole["runs"] = raw
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{chosen.name}.json").write_text(json.dumps(whole, indent=1) + "\n")
    page = to_markdown(whole)
    (RESULTS / f"{chosen.name}.md").write_text(page)
    print(page)


def command(chosen: argparse.Namespace) -> str:
    """What makes these results again, without the places of this machine."""
    rows, peers = " ".join(chosen.rows), " ".join(chosen.peers)
    named = "" if chosen.name == "speed" else f" --name {chosen.name}"
    checkouts = "".join(f" {name}=PATH" for name in chosen.peers if name in CHECKOUTS)
    places = f" --checkout{checkouts}" if checkouts else ""
    return f"python benchmarks/speed/compare.py{named} --rows {rows} --peers {peers} --seeds {chosen.seeds}{places}"


def prepare(name: str, environments: Path) -> str | None:
    """The Python of a peer's own virtual environment; None, with the reason, where it cannot be had."""
    place = environments / name
    ready = place / "ready"
    if not ready.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
            pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "-c", str(CONSTRAINTS)]
            build = {}
            if name in BUILT:
                subprocess.run([*pip, *BUILT[name]], check=True)
                pip.append("--no-build-isolation")
                build = {"NO_OCEAN": "1", "PYTHONPATH": str(HERE / "peers" / f"{name}_build")}
            subprocess.run([*pip, *PEERS[name][1]], check=True, env={**os.environ, **build})
        except subprocess.CalledProcessError as error:
            print(f"{name} is left out: {error}")
            return None
        ready.touch()
    return str(place / "bin" / "python")


def entries(
    row: Row, pythons: dict[str, str], checkouts: dict[str, str]
) -> dict[str, tuple[str, Path, dict[str, Any]]]:
    """Name -> (Python, script, job) of everything that a round runs."""
    job = {"task": row.task, "normalize": row.normalize, "threads": 1, **row.settings}
    found = {name: (sys.executable, HERE / "peers" / "ours.py", {**job, **way}) for name, way in row.ways.items()}
    left_out = CONTINUOUS_ONLY if row.settings is CARTPOLE else DISCRETE_ONLY
    peers = {
        name: (python, HERE / "peers" / PEERS[name][0], {**job, "library": name, "checkout": checkouts.get(name)})
        for name, python in pythons.items()
        if name not in left_out
    }
    batched = {
        f"{name}, our physics": (python, script, {**each, "batched": True})
        for name, (python, script, each) in peers.items()
        if name in BATCHED and row.settings is not CARTPOLE
    }
    return {**peers, **batched, **found}


def run(python: str, script: Path, job: dict[str, Any], core: int) -> dict[str, Any]:
    """One run on one core; what it reported, or its error."""
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    place = {"PYTHONPATH": str(HERE.parent.parent)} if job.get("batched") else {}
    one = {
        **os.environ,
        **threads,
        **place,
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    }
    command = ["taskset", "-c", str(core), python, str(script), json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, env=one, check=False)
    if done.returncode != 0:
        return {
            "error": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
        }
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def speed(run: dict[str, Any]) -> float:
    """Steps per second."""
    return float(run["steps"]) / float(run["seconds"])


def ratio(runs: list[dict[str, Any]], reference: list[dict[str, Any]]) -> str:
    """Median and range of how many times as fast runs are as the reference's of the same seed, which ran beside them."""
    speeds = {run["seed"]: speed(run) for run in reference}
    ratios = [speed(run) / speeds[run["seed"]] for run in runs if run["seed"] in speeds]
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]" if ratios else ""


def processor() -> str:
    """What Linux calls it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    found = [
        line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "cpu family", "model\t"))
    ]
    return " / ".join(found[:3]) or platform.processor()


def to_markdown(whole: dict[str, Any]) -> str:
    """The table: medians over the rounds; a ratio is the median of the rounds' own ratios, with their range."""
    lines = [f"# {whole['name']}", "", "    " + whole["command"], ""]
    lines += ["| task | | steps/s | ratio to SB3 [range] | peak MB | import s | return, last 100 |", "| --- " * 7 + "|"]
    versions: dict[str, str] = {}
    for name in dict.fromkeys(run["row"] for run in whole["runs"]):
        runs = [run for run in whole["runs"] if run["row"] == name]
        reference = [run for run in runs if run["entry"] == REFERENCE and "error" not in run]
        for entry in dict.fromkeys(run["entry"] for run in runs):
            mine = [run for run in runs if run["entry"] == entry and "error" not in run]
            if not mine:
                lines.append(f"| {name} | {entry} | failed | | | | |")
                continue
            median = {key: statistics.median(run[key] for run in mine) for key in ("peak_mb", "import_seconds")}
            returned = [run["return"] for run in mine if run["return"] is not None]
            lines.append(
                f"| {name} | {entry} | {statistics.median(map(speed, mine)):,.0f} | {ratio(mine, reference)} | {median['peak_mb']:.0f} "
                f"| {median['import_seconds']:.1f} | {f'{statistics.median(returned):.4g}' if returned else 'no episode'} |"
            )
            versions |= {f"{package} ({entry})": found for package, found in mine[0]["versions"].items()}
    seen = ", ".join(f"{name} {version}" for name, version in versions.items())
    return "\n".join([*lines, "", f"Processor {whole['processor']}, python {whole['python']}. {seen}", ""])


if __name__ == "__main__":
    main()
