"""How fast pistar trains on a GPU beside a plain torch loop and PureJaxRL: CartPole, the same settings, one run after another.

    python benchmarks/speed/gpu.py [--lanes 64 2048] [--seeds 3] [--checkout PATH --python PATH]

Entries, interleaved, one seed a round: pistar with captured steps, with them in bfloat16, and with eager steps; a PPO as
one writes it in a page of torch (`peers/torch_loop.py`); and PureJaxRL from a checkout, by an interpreter that has jax with
CUDA and what PureJaxRL needs. Printed and kept in ``benchmarks/results/NAME.json`` and ``.md``: steps per second in all
(wall clock from the call that trains to the last update, capturing and compiling included, imports not), steps per second
once everything is made, seconds of what is made once, peak memory of torch on the GPU, return of the last training episodes.

Without CUDA nothing is measured, and the reason is printed. ``--device cpu`` runs everything once and small, to show that
the script itself works; its numbers say nothing and are not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.speed.compare import ratio, speed

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
REFERENCE = "torch loop"
SETTINGS = {"task": "CartPole-v1", "horizon": 128, "epochs": 4, "learning_rate": 1e-3, "entropy_weight": 0.01}
MINIBATCHES = 8  # of an epoch
OURS = {
    "pistar, graphs": {"graphs": True, "precision": "float32"},
    "pistar, graphs, bfloat16": {"graphs": True, "precision": "bfloat16"},
    "pistar, eager": {"graphs": False, "precision": "float32"},
}
Job = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", type=int, nargs="+", default=[64, 2048], help="one table each")
    parser.add_argument("--iterations", type=int, default=40, help="of lanes x 128 steps in a run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--checkout", type=Path, help="where PureJaxRL lies")
    parser.add_argument("--python", default=sys.executable, help="interpreter that runs PureJaxRL")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--name", default="gpu", help="of the results' files")
    chosen = parser.parse_args()
    if chosen.device == "cuda" and not torch.cuda.is_available():
        print(
            f"skipped: torch {torch.__version__} finds no CUDA here, so there is nothing to measure. Install a build of "
            "torch for CUDA on a machine with an NVIDIA GPU; --device cpu only shows that this script works"
        )
        return
    if chosen.device == "cpu":
        chosen.lanes, chosen.iterations, chosen.seeds = [8], 5, 1
    reason = missing_peer(chosen)
    if reason is not None:
        print(f"purejaxrl is left out: {reason}")
    runs = []
    for lanes in chosen.lanes:
        for seed in range(chosen.seeds):
            for entry, (python, script, job) in entries(chosen, lanes, peer=reason is None).items():
                found = run(python, script, {**job, "seed": seed})
                runs.append({"lanes": lanes, "entry": entry, "seed": seed, **found})
                told = found.get("error") or f"{speed(found):,.0f} steps/s"
                print(f"{lanes} lanes, seed {seed}, {entry}: {told}", flush=True)
    device = torch.cuda.get_device_name() if chosen.device == "cuda" else "no GPU: these numbers say nothing"
    whole = {"name": chosen.name, "device": device, "python": platform.python_version(), "runs": runs}
    whole |= {"left_out": reason, "seeds": chosen.seeds, "iterations": chosen.iterations}
    page = to_markdown(whole)
    print(page)
    if chosen.device == "cuda":
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{chosen.name}.json").write_text(json.dumps(whole, indent=1) + "\n")
        (RESULTS / f"{chosen.name}.md").write_text(page)


def missing_peer(chosen: argparse.Namespace) -> str | None:
    """Why PureJaxRL cannot be run on this device, or None."""
    if chosen.checkout is None:
        return "give its checkout, --checkout PATH, and an interpreter with jax, --python PATH"
    if not (chosen.checkout / "purejaxrl" / "ppo.py").is_file():
        return f"{chosen.checkout} holds no purejaxrl/ppo.py; expected a checkout of PureJaxRL"
    code = "import jax, flax, distrax, optax, gymnax; print(jax.default_backend())"
    asked = subprocess.run([chosen.python, "-c", code], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        return f"{chosen.python} cannot import what it needs: {last_line(asked.stderr)}"
    backend, wanted = last_line(asked.stdout), "gpu" if chosen.device == "cuda" else "cpu"
    if backend != wanted:
        return f"the jax of {chosen.python} computes on the {backend}, expected the {wanted}; install jax[cuda12] there"
    return None


def entries(chosen: argparse.Namespace, lanes: int, peer: bool) -> dict[str, tuple[str, Path, Job]]:
    """Name -> (interpreter, script, job) of everything that a round runs."""
    batch = lanes * SETTINGS["horizon"]  # type: ignore[operator]
    job = {**SETTINGS, "lanes": lanes, "minibatch": batch // MINIBATCHES, "device": chosen.device}
    job["steps"] = batch * chosen.iterations
    ways = OURS if chosen.device == "cuda" else {"pistar": OURS["pistar, eager"]}
    found = {name: (sys.executable, HERE / "peers" / "ours_gpu.py", {**job, **way}) for name, way in ways.items()}
    found[REFERENCE] = (sys.executable, HERE / "peers" / "torch_loop.py", job)
    if peer:
        checkout = {"checkout": str(chosen.checkout.resolve())}
        found["purejaxrl"] = (chosen.python, HERE / "peers" / "purejaxrl_peer.py", {**job, **checkout})
    return found


def run(python: str, script: Path, job: Job) -> dict[str, Any]:
    """One run; what it reported and said of captures, or its error."""
    here = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    done = subprocess.run([python, str(script), json.dumps(job)], capture_output=True, text=True, env=here, check=False)
    if done.returncode != 0:
        return {"error": last_line(done.stderr) or f"exit code {done.returncode}"}
    said = [line for line in done.stderr.splitlines() if "eagerly" in line]  # a capture that fell back is no capture
    return {**json.loads(last_line(done.stdout)), "fell_back": said}


def last_line(text: str) -> str:
    """Of what a process has printed; nothing where it has not."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def steady(found: dict[str, Any]) -> float | None:
    """Steps per second without what is made once: a compiler's time is told, captures' is seen in the first iterations."""
    if "compile_seconds" in found:
        return float(found["steps"]) / (float(found["seconds"]) - float(found["compile_seconds"]))
    return found.get("steady")


def to_markdown(whole: dict[str, Any]) -> str:
    """A table per number of lanes: medians over the seeds; ratios are within the same round."""
    lines = [f"# {whole['name']}", "", f"{whole['device']}, python {whole['python']}, {whole['seeds']} seeds", ""]
    if whole["left_out"]:
        lines += [f"Left out: purejaxrl ({whole['left_out']})", ""]
    lines += [
        "| lanes | | steps/s | of these steady | ratio to the torch loop [range] | GPU MB | return |",
        "| --- " * 7 + "|",
    ]
    versions: dict[str, str] = {}
    for lanes in dict.fromkeys(each["lanes"] for each in whole["runs"]):
        runs = [each for each in whole["runs"] if each["lanes"] == lanes]
        reference = [each for each in runs if each["entry"] == REFERENCE and "error" not in each]
        for entry in dict.fromkeys(each["entry"] for each in runs):
            mine = [each for each in runs if each["entry"] == entry and "error" not in each]
            if not mine:
                lines.append(f"| {lanes} | {entry} | failed | | | | |")
                continue
            note = ", fell back" if any(each["fell_back"] for each in mine) else ""
            cells = [f"{statistics.median(map(speed, mine)):,.0f}", median(map(steady, mine)), ratio(mine, reference)]
            cells += [median(each.get("gpu_peak_mb") for each in mine), median(each["return"] for each in mine)]
            lines.append(f"| {lanes} | {entry}{note} | " + " | ".join(cells) + " |")
            versions |= {f"{package} ({entry})": found for package, found in mine[0]["versions"].items()}
    seen = ", ".join(f"{name} {version}" for name, version in versions.items())
    return "\n".join([*lines, "", seen, ""])


def median(values: Any) -> str:
    """Of the values that are there."""
    known = [value for value in values if value is not None]
    return f"{statistics.median(known):,.0f}" if known else ""


if __name__ == "__main__":
    main()
