"""Where a run's records go: terminal, JSONL, TensorBoard, pictures, video. Only ``recorder`` imports torch.

``recorder`` opens all that a run needs. ``sink`` says what a record is and who takes them; ``jsonl`` keeps them (the
source of truth), ``tensorboard`` mirrors them, ``progress`` shows the latest; ``picture`` draws a finished or running
run, ``video`` and ``window`` show frames. Each is imported by name, so that a command pays only for what it uses.
"""
