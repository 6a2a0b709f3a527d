"""``python -m pistar`` is ``pistar``."""

from pistar.cli import main

if __name__ == "__main__":  # a worker process started by spawn imports this file and must not run the command again
    raise SystemExit(main())
