"""One file from the web: redirects, faults that pass and that stay, waits that servers ask for.

`Web.get` asks until the whole content is there or there is no hope; what a whole content is, its
caller says.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from itertools import count
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError
from urllib3.util import Retry, Timeout, make_headers, parse_url

AGENT = "messi-anything (downloader of training data)"
PASSING = {408, 425, 429, 500, 502, 503, 504}  # statuses that may be gone at the next try
LARGEST = 256_000_000  # bytes of one file: a body without an end must not fill the memory
SLOWEST = 10  # one try may take so many times `timeout` in all, however steadily it drips


class Passing(Exception):
    """A fault that may pass; `wait` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.wait = wait


class Lasting(Exception):
    """A fault that stays: asking again is of no use."""


class Stopped(Exception):
    """`Web.stop` has been set."""


def is_address(source: object) -> bool:
    """Whether it is an address that can be asked: http or https, with a host."""
    try:
        parsed = parse_url(str(source))
    except HTTPError:
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host)


class Web:
    """Connections that are kept, and the pauses that servers ask for; for many threads at once.

    Proxies are taken from the environment (`http_proxy`, `https_proxy`, `no_proxy`).

    Args:
        connections: kept open for each host.
        timeout: seconds that a server may be silent.
        retries: further tries of one file.
        backoff: seconds before the second try, at random up to half of it sooner; then doubled.
        longest_wait: a server that asks to wait for more seconds is left alone.

    Attributes:
        stop: set it, and every `get` that waits or reads ends with `Stopped`.

    Raises:
        ValueError: a proxy of the environment that cannot be used.
    """

    def __init__(
        self, connections: int, timeout: float, retries: int, backoff: float, longest_wait: float
    ):
        self.timeout, self.retries = timeout, retries
        self.backoff, self.longest_wait = backoff, longest_wait
        self.stop = threading.Event()
        self._not_before: dict[str, float] = {}
        options = {"maxsize": connections, "headers": {"User-Agent": AGENT}}
        self._direct = urllib3.PoolManager(**options)
        self._proxies = {}
        for scheme, proxy in getproxies().items():
            if scheme in ("http", "https"):
                proxy = proxy if "://" in proxy else f"http://{proxy}"
                login = parse_url(proxy).auth
                headers = make_headers(proxy_basic_auth=login) if login else None
                self._proxies[scheme] = urllib3.ProxyManager(
                    proxy, proxy_headers=headers, **options
                )

    def close(self) -> None:
        """Close the connections that nobody uses."""
        for pool in (self._direct, *self._proxies.values()):
            pool.clear()

    def get(self, url: str, check: Callable[[bytes], object]) -> bytes:
        """The whole content of an address.

        Args:
            check: raises `Passing` for content that is damaged, `Lasting` for what is not wanted.

        Raises:
            Passing: all tries failed. Lasting: a fault that stays. Stopped: `stop` was set.
        """
        if not is_address(url):
            raise Lasting(f"{url!r} is no http or https address")
        host = parse_url(url).netloc
        for trial in count():
            self._sleep(self._not_before.get(host, 0.0) - time.monotonic())
            try:
                content = self._ask(url)
                check(content)
                return content
            except Passing as fault:
                if fault.wait > self.longest_wait:
                    raise Passing(f"{fault}; asks to wait {fault.wait:.0f} s") from None
                if trial == self.retries:
                    raise Passing(f"{fault} ({trial + 1} tries)") from None
                if fault.wait:  # it concerns everybody who asks this server
                    until = time.monotonic() + fault.wait
                    self._not_before[host] = max(self._not_before.get(host, 0.0), until)
                self._sleep(self.backoff * 2**trial * random.uniform(0.5, 1))

    def _sleep(self, seconds: float) -> None:
        if self.stop.wait(max(seconds, 0.0)):
            raise Stopped

    def _ask(self, url: str) -> bytes:
        """One request, and the redirects that follow from it."""
        parsed = parse_url(url)
        pool = self._proxies.get(parsed.scheme, self._direct)
        if pool is not self._direct and proxy_bypass(parsed.host):
            pool = self._direct
        # Only redirects are left to urllib3: faults of a body happen after its retries are over.
        policy = Retry(total=None, connect=False, read=False, status=False, redirect=5)
        limit = Timeout(connect=self.timeout, read=self.timeout)
        start = time.monotonic()
        response = None
        try:
            response = pool.request(
                "GET", url, preload_content=False, retries=policy, timeout=limit
            )
            if response.status != 200:
                reason = f"the server answers {response.status} {response.reason or ''}".strip()
                if response.status not in PASSING:
                    raise Lasting(reason)
                raise Passing(reason, wait_of(response))
            return self._body(response, start)
        except MaxRetryError as error:
            raise Lasting(f"redirected without end: {error.reason}") from error
        except ValueError as error:  # a redirect to another scheme, or to nowhere
            raise Lasting(f"no address to ask: {error}") from error
        except (HTTPError, OSError) as error:
            raise Passing(f"{type(error).__name__}: {error}") from error
        finally:
            # A response that was read to its end has given its connection back already.
            if response is not None and response.connection is not None:
                response.close()
                response.release_conn()

    def _body(self, response: urllib3.BaseHTTPResponse, start: float) -> bytes:
        parts, length = [], 0
        while part := response.read1(1 << 16, decode_content=True):
            parts.append(part)
            length += len(part)
            if self.stop.is_set():
                raise Stopped
            if length > LARGEST:
                raise Lasting(f"larger than {LARGEST // 1_000_000} MB")
            if time.monotonic() - start > SLOWEST * self.timeout:
                raise Passing(f"not complete after {SLOWEST * self.timeout:.0f} s")
        wanted = response.headers.get("Content-Length", "")
        encoded = "Content-Encoding" in response.headers  # then it is the length before decoding
        if wanted.isdigit() and int(wanted) != length and not encoded:
            raise Passing(f"{length} of {wanted} bytes arrived")
        return b"".join(parts)


def wait_of(response: urllib3.BaseHTTPResponse) -> float:
    """Seconds of `Retry-After` (a number or a date); 0 without, or with one that says nothing."""
    try:
        return max(Retry().get_retry_after(response) or 0.0, 0.0)
    except InvalidHeader:
        return 0.0
