"""Handles: short names under which a session keeps images, super-links and the like.

A conversation passes on `img_2_9c41...` instead of megabytes. A handle carries a tag that only its own
session can make, so that another session - or a model that invents a name - cannot reach anything by
guessing, and the three reasons why a handle leads nowhere (foreign, expired, malformed) can be told apart. A
store holds a bounded number of
bytes: what was used least recently goes first, and what nobody used for a while goes too.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Generic, TypeVar

from visionllm_sdk.errors import ConfigError, HandleError, LimitError
from visionllm_sdk.images import LoadedImage

__all__ = ["HandleLimits", "HandleStore", "ImageHandles"]

T = TypeVar("T")

_TAG_BYTES: Final = 8  # 64 bits, checked one by one inside a process: out of reach for guessing


@dataclass(frozen=True, kw_only=True)
class HandleLimits:
    """How much a store keeps, and for how long.

    Attributes:
        max_items: number of things.
        max_bytes: their bytes together.
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
    key: str | None
    used: float


class HandleStore(Generic[T]):
    """The things of one kind that one session keeps. Safe to use from several threads.

    Args:
        kind: prefix of the handles, letters only ("img").
        limits: how much is kept.
        secret: key of the session's tags. Stores of one session may share it; sessions must not.
        clock: seconds, never going back.
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
        self._entries: OrderedDict[str, _Entry[T]] = OrderedDict()  # least recently used first
        self._by_key: dict[str, str] = {}
        self._count = 0
        self._nbytes = 0
        self._lock = threading.RLock()

    def put(self, value: T, *, nbytes: int, origin: str, key: str | None = None) -> str:
        """Keep a thing and name it.

        Args:
            value: the thing.
            nbytes: memory that it takes.
            origin: where it came from, in words ("uploaded", "crop of img_1").
            key: identity of the content, if known; the same key again gives the handle that it already has.

        Raises:
            LimitError: it is larger than the whole store may be.
        """
        if nbytes > self.limits.max_bytes:
            raise LimitError(
                f"too large to be kept under a {self.kind} handle",
                value=f"{nbytes} bytes",
                limit=f"{self.limits.max_bytes} bytes",
                remedy="Raise HandleLimits.max_bytes, or use a smaller one.",
            )
        with self._lock:
            self._expire()
            known = self._by_key.get(key) if key is not None else None
            if known is not None:
                self._touch(known)
                return known
            self._count += 1
            handle = self._name(self._count)
            self._entries[handle] = _Entry(value, nbytes, origin, key, self._clock())
            self._nbytes += nbytes
            if key is not None:
                self._by_key[key] = handle
            while self._nbytes > self.limits.max_bytes or len(self._entries) > self.limits.max_items:
                self._drop(next(iter(self._entries)))
            return handle

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

    def discard(self, handle: str) -> None:
        """Forget one thing; nothing happens if it is not there."""
        with self._lock:
            if handle in self._entries:
                self._drop(handle)

    def clear(self) -> None:
        """Forget everything; old handles then count as expired."""
        with self._lock:
            for handle in list(self._entries):
                self._drop(handle)

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
            return handle in self._entries

    def __iter__(self) -> Iterator[str]:
        """The handles, in the order in which they were given out."""
        with self._lock:
            self._expire()
            return iter(sorted(self._entries, key=lambda handle: int(handle.split("_")[1])))

    def _find(self, handle: str) -> _Entry[T]:
        with self._lock:
            self._expire()
            if isinstance(handle, str) and handle in self._entries:
                return self._touch(handle)
        raise self._why_not(handle)

    def _why_not(self, handle: str) -> HandleError:
        parts = handle.split("_") if isinstance(handle, str) and handle.isascii() else []
        shape = f"{self.kind}_<number>_<tag>"
        if len(parts) != 3 or parts[0] != self.kind or not parts[1].isdigit():
            return HandleError(
                f"this is not a {self.kind} handle",
                value=handle,
                limit=shape,
                remedy="Use a handle exactly as it was given out.",
            )
        # Fixed-length digits only: int() of a very long string is slow.
        if len(parts[1]) > 12 or not hmac.compare_digest(handle.encode(), self._name(int(parts[1])).encode()):
            return HandleError(
                "the handle does not belong to this session",
                value=handle,
                limit="handles that this session gave out",
                remedy="Register the image in this session and use the handle that comes back.",
            )
        return HandleError(
            "the handle has expired",
            value=handle,
            limit=str(self.limits),
            remedy="Register the image again and use the new handle.",
        )

    def _name(self, number: int) -> str:
        stem = f"{self.kind}_{number}"
        tag = blake2b(stem.encode(), key=self._secret, digest_size=_TAG_BYTES).hexdigest()
        return f"{stem}_{tag}"

    def _touch(self, handle: str) -> _Entry[T]:
        self._entries.move_to_end(handle)
        entry = self._entries[handle]
        entry.used = self._clock()
        return entry

    def _expire(self) -> None:
        """Drop what was not used for `ttl`; the order of use is the order of expiry."""
        oldest = self._clock() - self.limits.ttl
        while self._entries:
            handle, entry = next(iter(self._entries.items()))
            if entry.used > oldest:
                return
            self._drop(handle)

    def _drop(self, handle: str) -> None:
        entry = self._entries.pop(handle)
        self._nbytes -= entry.nbytes
        if entry.key is not None:
            del self._by_key[entry.key]


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
        """Register an image (its own `source` is the origin if none is given), and return its handle.

        Raises:
            LimitError: it is larger than the whole store may be.
        """
        nbytes = image.width * image.height * 3
        return self.put(image, nbytes=nbytes, origin=origin or image.source, key=image.digest)
