"""A mirror of one's own: `pistar train cartpole --reporting.to milestones:Milestones`, in this directory."""


class Milestones:
    """Tells each time that the training return has passed another hundred."""

    def __init__(self, run, settings, resumed_at, quiet):
        self.path = run.path / "milestones.txt"
        self.next = 100.0

    def write(self, record):
        """Take one record; evaluations come as ``evaluation/mean``, and ``return`` is None while no episode has ended."""
        while (record.get("return") or 0.0) >= self.next:
            with self.path.open("a") as file:
                file.write(f"{record['steps']} steps: {self.next:g}\n")
            self.next += 100.0

    def flush(self):
        """Nothing is held back."""

    def close(self):
        """Nothing to release."""
