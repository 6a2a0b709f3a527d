"""``pistar watch RUN|POLICY``: see a policy act, in a window where there is a screen, else in a video file."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from pistar import experiment
from pistar.cli import flags
from pistar.errors import UsageError
from pistar.run import find_policy

USAGE = """
usage: pistar watch RUN|POLICY [--out FILE.mp4] [--flag value ...]

Show the policy of a run or of a policy file in a window; Space pauses, Escape closes it. With --out, or without a
screen, a video is written instead: .mp4 (needs pistar[video], else it becomes a .gif), .gif or .webp.
"""


@dataclass(frozen=True)
class Options:
    """The flags of ``watch``."""

    out: str | None = None  # the video file; none: a window, or watch.mp4 beside the policy where there is no screen
    episodes: int = 3  # whole episodes
    steps: int = 10_000  # most steps in all
    seed: int = 0  # of the episodes' starts
    fps: float = 30.0  # frames a second, one frame a step
    deterministic: bool = True  # the distribution's mode instead of a sample
    task: str | None = None  # act in this task; none: the one that the policy was trained on
    trust: str | None = None  # module:Class of a policy kind of your own that the file may use

    def __post_init__(self) -> None:
        for name in ("episodes", "steps", "fps"):
            if not getattr(self, name) > 0:
                raise UsageError(f"--{name}: expected a positive number, received {getattr(self, name)}")


FORMATS = (".mp4", ".gif", ".webp")


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = flags.of_command(argv, USAGE, Options)
    if arguments is None:
        return 0
    options, path = arguments.options(Options), find_policy(Path(arguments.only_word(USAGE)))
    if options.out is not None and Path(options.out).suffix.lower() not in FORMATS:
        raise UsageError(f"--out: expected a file that ends in {', '.join(FORMATS)}, received {options.out!r}")
    if options.task is not None:
        experiment.find_task(options.task)
    return play(path, options)


def play(path: Path, options: Options) -> int:
    """Show or record."""
    # Imported here: they import torch, which nothing before this line needs.
    from pistar import artefact, evaluation
    from pistar.report import video, window
    from pistar.watching import Performance

    performance = Performance(
        artefact.load(path, options.trust),
        evaluation.task_of(path, options.task),
        seed=options.seed,
        deterministic=options.deterministic,
    )
    frames = performance.frames(options.episodes, options.steps)
    if options.out is None and window.has_display() and importlib.util.find_spec("pygame") is not None:
        window.show(frames, options.fps, title=f"pistar · {performance.name}")
    else:
        beside = path / "watch.mp4" if path.is_dir() else path.with_name(f"{path.stem}-watch.mp4")
        written = video.write_video(frames, beside if options.out is None else Path(options.out), options.fps)
        print(written)
    for number, (total, length) in enumerate(performance.outcomes, start=1):
        print(f"episode {number}: return {total:.4g} in {length} steps")
    return 0
