"""What else a training run meets: the step after an end, closing, drawing, and how long it all takes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

from pistar.doctor.findings import Diagnosis, Place
from pistar.doctor.playing import Lane, Make, raised
from pistar.doctor.repeating import quietly_close
from pistar.envs import pace

LANES = 16  # of a run with default settings
SLOW = 20e-3  # seconds of a step above which a million of them takes most of a day
SLOW_RESET = 1e-3  # seconds of a reset that are worth a remark where they are most of the time
RENDER_SECONDS = 60

RENDER = """
import json, sys
import numpy as np
sys.path[:] = {path!r}
from pistar.envs import targets
environment = targets.make({target!r}, {options!r}, render=True)
environment.reset(seed=0)
frame = np.asarray(environment.render())
print("FRAME " + json.dumps([str(frame.dtype), list(frame.shape)]))
"""


def check_after_the_end(diagnosis: Diagnosis, make: Make, lanes: list[Lane]) -> None:
    """What a step after the end does, and whether reset still works then."""
    played = [(lane, each) for lane in lanes for each in lane.episodes if each.ended and not each.broken]
    if not played:
        return
    lane, episode = next((each for each in played if each[1].terminated), played[0])
    environment = make()
    try:
        environment.reset(seed=episode.seed)
        terminated = truncated = False
        for action in episode.actions:
            _, _, terminated, truncated, _ = environment.step(action)
        if not (terminated or truncated):
            return  # it does not repeat, which `restoring` reports
        place = Place(lane.number, 0, len(episode.actions))
        try:
            _, _, still_terminated, still_truncated, _ = environment.step(episode.actions[-1])
        except (Exception, SystemExit) as error:
            diagnosis.ok("after the end", f"a further step raises {type(error).__name__}, as it should")
        else:
            forgets = not (still_terminated or still_truncated or truncated)
            answer = "goes on with terminated=False, as if nothing had ended" if forgets else "says that it ended"
            diagnosis.ok("after the end", f"a further step {answer}; pistar takes none, it resets at once")
        _reset_again(diagnosis, environment, episode.seed, place)
    finally:
        quietly_close(environment)


def _reset_again(diagnosis: Diagnosis, environment: Any, seed: int, place: Place) -> None:
    try:
        environment.reset(seed=seed)
    except (Exception, SystemExit) as error:
        diagnosis.fail(
            "after the end", f"reset after that {raised(error)}", "let reset work in whatever state it is called", place
        )


def check_closing(diagnosis: Diagnosis, make: Make) -> None:
    """Can it be closed, used or not?"""
    for used in (True, False):
        environment = make()
        try:
            if used:
                environment.reset(seed=0)
            environment.close()
            environment.close()
        except (Exception, SystemExit) as error:
            how = "after use" if used else "before its first reset"
            diagnosis.warn(
                "close", f"close() {how}, called twice, {raised(error)}", "let close do nothing the second time"
            )


def check_drawing(diagnosis: Diagnosis, environment: Any, target: Any, options: dict[str, Any]) -> None:
    """Does it draw an RGB frame? Asked in a process of its own, since drawing may end the one it is in."""
    modes = list((getattr(environment, "metadata", None) or {}).get("render_modes", []))
    if "rgb_array" not in modes or not isinstance(target, str):
        diagnosis.ok("render", f"no 'rgb_array' in metadata['render_modes'] {modes}, so there will be no videos")
        return
    code = RENDER.format(path=sys.path, target=target, options=options)
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=RENDER_SECONDS)
    except subprocess.TimeoutExpired:
        diagnosis.warn("render", f"drawing took more than {RENDER_SECONDS} s", "train without video")
        return
    answer = next((line for line in done.stdout.splitlines() if line.startswith("FRAME ")), None)
    if answer is None:
        ending = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        diagnosis.warn(
            "render",
            f"drawing with render_mode='rgb_array' failed: {ending[:300]}",
            "install what is missing, or train without video; learning does not need it",
        )
        return
    dtype, shape = json.loads(answer.removeprefix("FRAME "))
    if dtype != "uint8" or len(shape) != 3 or shape[2] != 3:
        diagnosis.warn(
            "render", f"the frame is {dtype} {shape}, expected uint8 [height, width, 3]", "return an RGB array of uint8"
        )
    else:
        diagnosis.ok("render", f"draws frames of {shape[1]} × {shape[0]} pixels")


def check_speed(diagnosis: Diagnosis, lanes: list[Lane]) -> None:
    """Steps per second, what resets cost, and whether workers would pay."""
    steps = [seconds for lane in lanes for seconds in lane.step_seconds]
    if not steps:
        return
    resets = [seconds for lane in lanes for seconds in lane.reset_seconds]
    episodes = sum(episode.ended for lane in lanes for episode in lane.episodes)
    reset = statistics.median(resets)
    step, share = statistics.median(steps), reset * episodes / (reset * episodes + sum(steps))
    cost = step / (1 - share)  # with the resets that come with it
    text = f"{1 / cost:,.0f} steps/s in one process: {1e3 * step:.3g} ms a step, {1e3 * reset:.3g} ms a reset"
    text += f" ({100 * share:.0f} % of the time)" if episodes else ""
    text += ". " + workers_pay(cost, pace.available_cores())
    if step > SLOW:
        diagnosis.warn("speed", text, "a million steps is the usual scale; simplify the simulation or add workers")
    elif share > 0.5 and reset > SLOW_RESET and episodes >= 3:
        diagnosis.warn("speed", text, "more time goes into resets than into steps: keep what reset builds anew")
    else:
        diagnosis.ok("speed", text)


def workers_pay(cost: float, cores: int) -> str:
    """Advice on ``--workers`` for a step that costs so many seconds; an estimate, not a measurement."""
    if cores < 2:
        return "One core: workers would not pay"
    workers, _ = pace.best_workers(cost, LANES, cores)
    if workers == 0:
        return f"Workers would not pay: {LANES} lanes take {1e3 * LANES * cost:.2g} ms, the exchange {1e3 * pace.EXCHANGE:.2g} ms"
    return f"Workers would pay: --workers {workers} makes stepping about {pace.gain(cost, LANES, workers):.2g} times as fast"
