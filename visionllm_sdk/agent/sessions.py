"""What a conversation keeps beside its messages: images and super-links under handles.

Nothing here is the only copy. Images can be read from the messages again, super-links computed again from
their recipe, and within one thread of a graph the handles come out the same in another process.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Final

from visionllm_sdk.errors import ImageError
from visionllm_sdk.geometry import Box
from visionllm_sdk.handles import HandleLimits, HandleStore, ImageHandles
from visionllm_sdk.images import LoadedImage
from visionllm_sdk.model.reply import RoutedCall

__all__ = ["CallKey", "KeptCall", "Sessions", "VisionSession", "call_key"]

_SOURCES: Final = 512
_SESSIONS: Final = 256
LIMITS: Final = HandleLimits(max_items=128, max_bytes=128 * 2**20, ttl=3600.0)


@dataclass(frozen=True, kw_only=True)
class CallKey:
    """What a routed call was computed from.

    Attributes:
        identity: of all of it; see `call_key`.
        images: digests.
        request: what the user said.
    """

    identity: str
    images: tuple[str, ...]
    request: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeptCall(RoutedCall):
    """A routed call that a session keeps.

    Attributes:
        key: what it was computed from.
    """

    key: CallKey


class VisionSession:
    """The images and super-links of one conversation. Safe to use from several threads.

    Attributes:
        name: tells sessions apart whose handles are different; nothing can be learnt from it.

    Args:
        secret: key of its handles; nobody else may know it. None draws one.
        limits: how much is kept, for images and for super-links each.
    """

    def __init__(self, *, secret: bytes | None = None, limits: HandleLimits = LIMITS) -> None:
        key = secret or secrets.token_bytes(32)
        self.name = blake2b(key, digest_size=16, person=b"session name").hexdigest()
        self.images = ImageHandles(limits=limits, secret=key)
        self.links: HandleStore[KeptCall] = HandleStore("link", limits=limits, secret=key)
        self._sources: OrderedDict[str, str] = OrderedDict()  # fingerprint of a source to handle
        self._lock = threading.Lock()

    def image(self, source: str, load: Callable[[], LoadedImage], *, origin: str) -> tuple[str, LoadedImage]:
        """The image of a source, which is loaded only if the session does not have it.

        Args:
            source: what names the content: base64 text or a URL.
            load: loads it.
            origin: where it comes from, in words.
        """
        fingerprint = blake2b(source.encode(), digest_size=16).hexdigest()
        with self._lock:
            handle = self._sources.get(fingerprint)
        if handle is not None and handle in self.images:
            return handle, self.images.get(handle)
        image = load()
        handle = self.images.add(image, origin=origin)
        with self._lock:
            self._sources[fingerprint] = handle
            while len(self._sources) > _SOURCES:
                self._sources.popitem(last=False)
        return handle, image

    def crop(self, handle: str, box: Box) -> str:
        """Cut a box out of an image and register the piece.

        Args:
            handle: of the image.
            box: in its pixels; what lies outside of it is left out.

        Raises:
            HandleError: no such image here.
            ImageError: nothing of the box lies inside the image.
        """
        whole = self.images.get(handle)
        inside = box.clipped(whole.width, whole.height)
        left, top, right, bottom = (round(value) for value in inside.xyxy)
        if right <= left or bottom <= top:
            raise ImageError(
                "the box lies outside of the image", value=box.xyxy, limit=(whole.width, whole.height)
            )
        piece = LoadedImage(whole.image.crop((left, top, right, bottom)), f"crop of {handle} at {box.xyxy}")
        return self.images.add(piece)

    def keep(self, call: RoutedCall, *, key: CallKey) -> str:
        """Keep a routed call with its super-links; `key` is what it was computed from."""
        nbytes = sum(link.states.nbytes for link in call.super_links)
        labels = ", ".join(call.labels)
        kept = KeptCall(token=call.token, links=call.links, context=call.context, key=key)
        return self.links.put(kept, nbytes=nbytes, origin=f"{call.token} {labels}", key=key.identity)


class Sessions:
    """The sessions of one model, one for every thread of every graph; the least recently used go first.

    Args:
        secret: mixed into the handles. Processes that continue each other's threads need the same one; the
            default, none, makes handles depend on the thread's name and on what they stand for.
        limits: of every session.
        max_sessions: how many are kept, beside those of running threads.
    """

    def __init__(
        self, *, secret: bytes = b"", limits: HandleLimits = LIMITS, max_sessions: int = _SESSIONS
    ) -> None:
        self._secret = blake2b(secret, digest_size=32).digest()
        self._limits = limits
        self._max = max_sessions
        self._sessions: OrderedDict[str, VisionSession] = OrderedDict()
        self._running: Counter[str | None] = Counter()
        self._alone = VisionSession(limits=limits)
        self._lock = threading.Lock()

    def of(self, thread: str | None) -> VisionSession:
        """The session of a thread; None is the one session of everything outside of graphs."""
        if thread is None:
            return self._alone
        with self._lock:
            session = self._sessions.get(thread)
            if session is None:
                secret = blake2b(thread.encode(), key=self._secret, digest_size=32).digest()
                session = self._sessions[thread] = VisionSession(secret=secret, limits=self._limits)
            self._sessions.move_to_end(thread)
            self._make_room()
            return session

    @contextmanager
    def running(self, thread: str | None) -> Iterator[None]:
        """The time in which a thread runs: its session stays, and so do the images in it."""
        with self._lock:
            self._running[thread] += 1
        try:
            with self.of(thread).images.held():
                yield
        finally:
            with self._lock:
                self._running -= Counter([thread])  # names that do not run are left out
                self._make_room()

    def _make_room(self) -> None:
        """Forget the sessions used least recently, but for the latest and those of running threads."""
        spare = len(self._sessions) - self._max
        idle = (thread for thread in [*self._sessions][:-1] if thread not in self._running)
        for thread in [*islice(idle, max(spare, 0))]:
            del self._sessions[thread]


def call_key(prompt: Sequence[int], images: Sequence[str], reply: Sequence[int], number: int) -> str:
    """Identity of one routed call: everything that its super-links were computed from.

    Args:
        prompt: ids, each image as one negative number.
        images: digests.
        reply: ids.
        number: which call of the reply.
    """
    text = ";".join((",".join(map(str, prompt)), ",".join(images), ",".join(map(str, reply)), str(number)))
    return blake2b(text.encode(), digest_size=16).hexdigest()
