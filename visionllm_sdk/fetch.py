"""Fetching an image from a URL without becoming a gateway into private networks.

A URL in a conversation may come from anyone. So the host name is resolved here, once; every address must be
public; the connection goes to the address that was checked (a name that resolves differently the second time
gains nothing); each redirect is checked anew; and the answer is read under a limit of size and of time.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from visionllm_sdk.errors import ImageError

if TYPE_CHECKING:
    import httpx

__all__ = ["UrlPolicy", "fetch", "is_url"]

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # public by its number, but leads to any IPv4 address
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True, kw_only=True)
class UrlPolicy:
    """From where images may be fetched.

    Attributes:
        hosts: if given, only these host names (exact, lower case).
        allow_private: also addresses that are not public (this machine, the local network). Only for URLs
            that come from a trusted source.
        timeout: seconds for the whole download.
        max_redirects: how many redirects are followed.
    """

    hosts: frozenset[str] | None = None
    allow_private: bool = False
    timeout: float = 15.0
    max_redirects: int = 3


def is_url(text: str) -> bool:
    """Whether the text is a URL and not a path: a scheme followed by `://`."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme.isalnum()


def fetch(url: str, *, policy: UrlPolicy, max_bytes: int) -> tuple[bytes, str]:
    """Download an image.

    Returns:
        The bytes, and the URL without its query and credentials, fit for messages.

    Raises:
        ImageError: the scheme, host, address, answer, size or duration is not allowed, or the host does not
            answer.
    """
    import httpx

    deadline = time.monotonic() + policy.timeout
    try:
        target = httpx.URL(url)
        # No proxy, cookie or credential of this process is to be used for a stranger's URL.
        with httpx.Client(trust_env=False, follow_redirects=False, timeout=policy.timeout) as client:
            for _ in range(policy.max_redirects + 1):
                _check_time(target, deadline)
                answer = _request(client, target, policy, max_bytes, deadline)
                if isinstance(answer, bytes):
                    return answer, _name(target)
                target = target.join(answer)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ImageError(f"the image cannot be fetched: {error}", value=url.partition("?")[0]) from error
    raise ImageError("too many redirects", value=_name(target), limit=policy.max_redirects)


def _request(
    client: httpx.Client, url: httpx.URL, policy: UrlPolicy, max_bytes: int, deadline: float
) -> bytes | str:
    """One request: the body, or where it redirects to."""
    with _connect(client, url, _checked_addresses(url, policy)) as response:
        if response.status_code in _REDIRECTS and "location" in response.headers:
            return str(response.headers["location"])
        _check_answer(response, url)
        return _read(response, url, max_bytes, deadline)


@contextmanager
def _connect(client: httpx.Client, url: httpx.URL, addresses: list[_Address]) -> Iterator[httpx.Response]:
    """Send the request to the first of the checked addresses that accepts a connection."""
    import httpx

    for number, address in enumerate(addresses, start=1):
        host = f"[{address}]" if address.version == 6 else str(address)
        request = client.build_request(
            "GET",
            url.copy_with(host=host),
            headers={
                "Host": url.netloc.decode("ascii"),
                "Accept": "image/*",
                "Accept-Encoding": "identity",
            },
            extensions={"sni_hostname": url.host},  # the certificate must still be that of the name
        )
        try:
            response = client.send(request, stream=True)
        except httpx.ConnectError:
            if number == len(addresses):
                raise
            continue
        with closing(response):
            yield response
        return


def _checked_addresses(url: httpx.URL, policy: UrlPolicy) -> list[_Address]:
    """Resolve the host; its addresses, if every one of them is allowed."""
    name = _name(url)
    if url.scheme not in ("http", "https") or not url.host:
        raise ImageError("only http and https URLs are fetched", value=name, limit="http://, https://")
    if url.userinfo:
        raise ImageError("a URL with credentials is not fetched", value=name, remedy="Remove them.")
    if policy.hosts is not None and url.host not in policy.hosts:
        raise ImageError("the host is not on the list", value=url.host, limit=sorted(policy.hosts))
    addresses = _resolve(url.host)
    if not policy.allow_private and not all(_is_public(address) for address in addresses):
        raise ImageError(
            "the URL leads to an address that is not public",
            value=url.host,
            limit="public addresses",
            remedy="Read the file directly, or pass UrlPolicy(allow_private=True) for URLs that you trust.",
        )
    return addresses


def _resolve(host: str) -> list[_Address]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ImageError("the host is unknown", value=host, remedy="Check the URL.") from error
    return [ipaddress.ip_address(entry[4][0]) for entry in found]


def _is_public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is not None:
            return _is_public(inner)
        if address in _NAT64:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _check_answer(response: httpx.Response, url: httpx.URL) -> None:
    if response.status_code != 200:
        raise ImageError(
            "the server did not give the image", value=f"{_name(url)}: status {response.status_code}"
        )
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (kind.startswith("image/") or kind in ("application/octet-stream", "binary/octet-stream")):
        raise ImageError(
            "the URL is not an image", value=f"{_name(url)}: {kind or 'no type'}", limit="image/*"
        )
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        # A compressed answer could grow without limit while it is unpacked.
        raise ImageError("the answer is compressed", value=_name(url), limit="plain image files")


def _read(response: httpx.Response, url: httpx.URL, max_bytes: int, deadline: float) -> bytes:
    data = bytearray()
    for chunk in response.iter_raw():
        data += chunk
        if len(data) > max_bytes:
            raise ImageError(
                "the download is too large",
                value=_name(url),
                limit=f"{max_bytes} bytes",
                remedy="Use a smaller image.",
            )
        _check_time(url, deadline)
    return bytes(data)


def _check_time(url: httpx.URL, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise ImageError(
            "the download takes too long", value=_name(url), remedy="Raise UrlPolicy.timeout, or retry later."
        )


def _name(url: httpx.URL) -> str:
    """The URL for messages: without credentials, query and fragment, which may hold secrets."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}{url.path}"
