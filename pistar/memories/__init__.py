"""Memories, one file each; ``MEMORIES`` names them without importing any."""

from pistar.registry import Registry

MEMORIES = Registry(
    "memory",
    {
        "gru": "pistar.memories.gru:GRU",
        "lstm": "pistar.memories.lstm:LSTM",
    },
)
