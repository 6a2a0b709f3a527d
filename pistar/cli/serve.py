"""``pistar serve RUN|POLICY``: a policy that acts on request, over HTTP."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pistar import experiment
from pistar.cli import flags
from pistar.errors import MissingExtra
from pistar.serve.settings import Service as Options
from pistar.serve.settings import located

USAGE = """
usage: pistar serve RUN|POLICY|FILE.onnx [--port N] [--flag value ...]

Answer POST /v1/act with the policy's actions, and show the policy at the same address in a browser. A run is exported first, and
again whenever it has a newer policy. Only this machine can reach the service, unless --host says otherwise; then every request
needs a token, which the environment variable PISTAR_SERVE_TOKEN or --token-file holds. Ctrl-C or SIGTERM ends it once all
requests are answered.
"""


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = flags.of_command(argv, USAGE, Options)
    if arguments is None:
        return 0
    settings, path = arguments.options(Options), Path(arguments.only_word(USAGE))
    located(path)
    if settings.task is not None:
        experiment.find_task(settings.task)
    for package in ("starlette", "uvicorn", "httptools", "msgspec", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "serve", "pistar serve")
    # Imported here, because help and errors of usage need none of it.
    from pistar.serve import server

    return server.serve(path, settings)
