"""Handles: short names under which a session keeps images, super-links and the like.

A conversation passes on `img_2_9c41...` instead of megabytes. A handle carries a tag that is made from the
session's secret and from what the handle stands for: another session - or a model that invents a name -
cannot reach anything by guessing, a handle never comes to mean something else, and whoever has the secret and
the thing (the same conversation in a new process) arrives at the same tag. The three reasons why a handle
leads nowhere (foreign, expired, malformed) can be told apart. A store holds a bounded number of bytes: what
was used least recently goes first, and what nobody used for a while goes too. What one request needs at once
stays together until it is done, and a single thing is never too large.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Generic, TypeVar

from visionllm_sdk.errors import ConfigError, HandleError
from visionllm_sdk.images import LoadedImage

__all__ = ["HandleLimits", "HandleStore", "ImageHandles"]

T = TypeVar("T")

_TAG_BYTES: Final = 8  # 64 bits, checked one by one inside a process: out of reach for guessing
_MEMORY: Final = 4096  # handles of things that are gone, kept to say so


@dataclass(frozen=True, kw_only=True)
class HandleLimits:
    """How much a store keeps, and for how long.

    Attributes:
        max_items: number of things.
        max_bytes: their bytes together; a single larger thing is kept alone.
        ttl: seconds after its last use until a thing expires.
    """

    max_items: int = 256
    max_bytes: int = 512 * 2**20
    ttl: float = 3600.0


@dataclass
class _Entry(Generic[T]):
    value: T
    nbytes: int
    origin: str
    handle: str
    used: float


class HandleStore(Generic[T]):
    """The things of one kind that one session keeps. Safe to use from several threads.

    Args:
        kind: prefix of the handles, letters only ("img").
        limits: how much is kept.
        secret: key of the session's tags, at most 64 bytes. Stores of one session may share it; sessions must
            not.
        clock: seconds, never going back.

    Raises:
        ConfigError: ``kind`` is not a word of ASCII letters.
    """

    def __init__(
        self,
        kind: str,
        *,
        limits: HandleLimits | None = None,
        secret: bytes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not (kind.isascii() and kind.isalpha()):
            raise ConfigError("the kind of a handle is a word of ASCII letters", value=kind)
        self.kind = kind
        self.limits = limits or HandleLimits()
        self._secret = secret or secrets.token_bytes(32)
        self._clock = clock
        self._entries: OrderedDict[str, _Entry[T]] = OrderedDict()  # tag to entry, least recently used first
        self._gone: OrderedDict[str, str] = OrderedDict()  # tag to handle
        self._count = 0
        self._nbytes = 0
        self._holds = 0
        self._lock = threading.RLock()

    def put(self, value: T, *, nbytes: int, origin: str, key: str | None = None) -> str:
        """Keep a thing and name it.

        Args:
            value: the thing.
            nbytes: memory that it takes.
            origin: where it came from, in words ("uploaded", "crop of img_1").
            key: identity of the content, if known; the same key again gives the handle that it already has
                (or had, before it expired).
        """
        with self._lock:
            self._expire()
            tag = self._tag(secrets.token_hex(16) if key is None else key)
            if tag in self._entries:
                return self._touch(tag).handle
            handle = self._gone.pop(tag, None)
            if handle is None:
                self._count += 1
                handle = f"{self.kind}_{self._count}_{tag}"
            self._entries[tag] = _Entry(value, nbytes, origin, handle, self._clock())
            self._nbytes += nbytes
            self._make_room()
            return handle

    @contextmanager
    def held(self) -> Iterator[None]:
        """The time of one request: what it needs at once does not push itself out."""
        with self._lock:
            self._holds += 1
        try:
            yield
        finally:
            with self._lock:
                self._holds -= 1
                self._make_room()

    def get(self, handle: str) -> T:
        """The thing under a handle; it counts as used now.

        Raises:
            HandleError: malformed, of another session, or expired.
        """
        return self._find(handle).value

    def origin(self, handle: str) -> str:
        """Where the thing came from.

        Raises:
            HandleError: malformed, of another session, or expired.
        """
        return self._find(handle).origin

    def handle_of(self, key: str) -> str | None:
        """The handle of a content that is kept, None if it is not."""
        with self._lock:
            self._expire()
            entry = self._entries.get(self._tag(key))
            return None if entry is None else entry.handle

    def discard(self, handle: str) -> None:
        """Forget one thing; nothing happens if it is not there."""
        with self._lock:
            tag = self._tag_in(handle)
            if tag in self._entries:
                self._drop(tag)

    def clear(self) -> None:
        """Forget everything; old handles then count as expired."""
        with self._lock:
            for tag in list(self._entries):
                self._drop(tag)

    @property
    def nbytes(self) -> int:
        """Bytes kept now."""
        with self._lock:
            self._expire()
            return self._nbytes

    def __len__(self) -> int:
        with self._lock:
            self._expire()
            return len(self._entries)

    def __contains__(self, handle: object) -> bool:
        with self._lock:
            self._expire()
            return isinstance(handle, str) and self._tag_in(handle) in self._entries

    def __iter__(self) -> Iterator[str]:
        """The handles, in the order in which they were given out."""
        with self._lock:
            self._expire()
            handles = [entry.handle for entry in self._entries.values()]
        return iter(sorted(handles, key=lambda handle: int(handle.split("_")[1])))

    def _find(self, handle: str) -> _Entry[T]:
        with self._lock:
            self._expire()
            tag = self._tag_in(handle) if isinstance(handle, str) else ""
            if tag in self._entries:
                return self._touch(tag)
            raise self._why_not(handle, tag)

    def _why_not(self, handle: object, tag: str) -> HandleError:
        if not tag:
            return HandleError(
                f"this is not a {self.kind} handle",
                value=handle,
                limit=f"{self.kind}_<number>_<tag>",
                remedy="Use a handle exactly as it was given out.",
            )
        if tag in self._gone:
            return HandleError(
                "the handle has expired",
                value=handle,
                limit=str(self.limits),
                remedy="Register it again and use the new handle.",
            )
        return HandleError(
            "the handle does not belong to this session",
            value=handle,
            limit="handles that this session gave out",
            remedy="Register it in this session and use the handle that comes back.",
        )

    def _tag(self, key: str) -> str:
        data = f"{self.kind} {key}".encode()
        return blake2b(data, key=self._secret, digest_size=_TAG_BYTES).hexdigest()

    def _tag_in(self, handle: str) -> str:
        """The tag of a well-formed handle, else nothing. The number is for people: the tag decides."""
        parts = handle.split("_") if handle.isascii() and len(handle) <= 80 else []
        formed = len(parts) == 3 and parts[0] == self.kind and parts[1].isdigit()
        return parts[2] if formed else ""

    def _touch(self, tag: str) -> _Entry[T]:
        self._entries.move_to_end(tag)
        entry = self._entries[tag]
        entry.used = self._clock()
        return entry

    def _expire(self) -> None:
        """Drop what was not used for `ttl`; the order of use is the order of expiry."""
        oldest = self._clock() - self.limits.ttl
        while self._entries:
            tag, entry = next(iter(self._entries.items()))
            if entry.used > oldest:
                return
            self._drop(tag)

    def _make_room(self) -> None:
        """Drop what was used least recently; the latest stays, whatever its size."""
        limits = self.limits
        while not self._holds and len(self._entries) > 1:
            if self._nbytes <= limits.max_bytes and len(self._entries) <= limits.max_items:
                return
            self._drop(next(iter(self._entries)))

    def _drop(self, tag: str) -> None:
        entry = self._entries.pop(tag)
        self._nbytes -= entry.nbytes
        self._gone[tag] = entry.handle
        while len(self._gone) > _MEMORY:
            self._gone.popitem(last=False)


class ImageHandles(HandleStore[LoadedImage]):
    """The images of one session: given, cropped and produced ones. The same picture has one handle."""

    def __init__(
        self,
        *,
        limits: HandleLimits | None = None,
        secret: bytes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("img", limits=limits, secret=secret, clock=clock)

    def add(self, image: LoadedImage, *, origin: str | None = None) -> str:
        """Register an image (its own `source` is the origin if none is given), and return its handle."""
        nbytes = image.width * image.height * 3
        return self.put(image, nbytes=nbytes, origin=origin or image.source, key=image.digest)
