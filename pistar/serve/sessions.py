"""What is kept between requests, such as the memory of a recurrent policy: bounded in number, ended when idle.

A name is drawn here and cannot be guessed. A session that ended is never begun anew in silence, because a policy that
forgot in the middle of an episode acts wrongly: the client is told. A store that is full refuses new sessions and leaves
those in use alone.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from pistar.serve.refusals import Refusal, excerpt

T = TypeVar("T")


@dataclass
class Entry(Generic[T]):
    """A kept value, when it was last used, and whether a request is using it now."""

    value: T
    used: float
    size: int = 1
    busy: bool = False


class Sessions(Generic[T]):
    """Values of ``capacity`` in size together, each until it was idle for ``idle`` seconds. Oldest use first, so ending is O(1)."""

    def __init__(
        self,
        capacity: int,
        idle: float,
        sort: str = "session",
        begun_by: str = "POST /v1/sessions",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.capacity, self.idle, self.sort, self.begun_by, self._clock = capacity, idle, sort, begun_by, clock
        self._entries: OrderedDict[str, Entry[T]] = OrderedDict()
        self.size = 0  # of all that is kept
        self.begun = self.expired = self.refused = 0  # counts since the start, for the metrics

    def __len__(self) -> int:
        self.expire()
        return len(self._entries)

    def begin(self, value: T, size: int = 1) -> str:
        """Keep ``value`` and return its name. Raises Refusal (429) where the store is full."""
        self.expire()
        if self.size + size > self.capacity:
            self.refused += 1
            oldest = next((entry.used for entry in self._entries.values()), self._clock())
            wait = max(1, round(oldest + self.idle - self._clock()))
            raise Refusal(
                429,
                f"no room for another {self.sort}",
                f"at most {self.capacity} lanes of all at the same time",
                f"{self.size} in use, {size} more asked for",
                f"end one that is done with (DELETE), or try again in {wait} s, when the one idle for longest ends",
                [(b"retry-after", b"%d" % wait)],
            )
        name = secrets.token_urlsafe(18)
        self._entries[name] = Entry(value, self._clock(), size)
        self.size += size
        self.begun += 1
        return name

    def use(self, name: str) -> Entry[T]:
        """The entry called ``name``, whose idle time begins anew. Raises Refusal (404) where there is none."""
        self.expire()
        entry = self._entries.get(name)
        if entry is None:
            raise Refusal(
                404,
                f"no such {self.sort}",
                f"a {self.sort} that {self.begun_by} began and that was used within the last {self.idle:g} s",
                excerpt(name),
                f"begin a new one ({self.begun_by}); what the old one remembered is gone",
            )
        entry.used = self._clock()
        self._entries.move_to_end(name)
        return entry

    def end(self, name: str) -> T:
        """Forget a session and return what it held. Raises Refusal (404) where there is none."""
        self.use(name)
        return self._forget(name)

    def _forget(self, name: str) -> T:
        entry = self._entries.pop(name)
        self.size -= entry.size
        return entry.value

    def make_room(self) -> T | None:
        """Where the store is full, end what was idle for longest and is not in use; returns what it held."""
        idle = (name for name, entry in self._entries.items() if not entry.busy)
        if self.size < self.capacity or (name := next(idle, None)) is None:
            return None
        return self._forget(name)

    def values(self) -> Iterator[T]:
        """What all sessions hold, least recently used first."""
        return (entry.value for entry in self._entries.values())

    def drop(self, ended: Callable[[T], bool]) -> int:
        """End every session whose value satisfies ``ended``; returns how many."""
        names = [name for name, entry in self._entries.items() if ended(entry.value)]
        for name in names:
            self._forget(name)
        return len(names)

    def expire(self) -> list[T]:
        """End those that were idle for too long; returns what they held."""
        gone, limit = list[T](), self._clock() - self.idle
        while self._entries:
            name, entry = next(iter(self._entries.items()))
            if entry.used > limit:
                break
            if entry.busy:  # a request is using it: as good as used now
                entry.used = self._clock()
                self._entries.move_to_end(name)
                continue
            gone.append(self._forget(name))
            self.expired += 1
        return gone
