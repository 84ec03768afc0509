"""Figures for Prometheus, where [metrics] is in the configuration: http://127.0.0.1:19477/metrics."""

from __future__ import annotations

import gzip
import logging
import time
import types
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from edgeai.config import MetricsSettings
from edgeai.errors import ConfigError
from edgeai.exporter.figures import EngineFigures, StreamFigures
from edgeai.sinks.other_settings import is_loopback
from edgeai.sinks.store_and_forward import Counters

if TYPE_CHECKING:  # the library's HTTP costs a start 10 ms, which who has no [metrics] need not pay
    from edgeai.exporter.http_server import BoundedServer, Reply

log = logging.getLogger("edgeai")

FRESH_S: Final = 1.0
"""Who asks again within this time gets the same answer: what a scrape costs is paid once a second at most."""
_ATTEMPTS: Final = 3
_GZIP_LEVEL: Final = 1  # a tenth of the size; more takes several times as long for little


def check_library() -> None:
    """Raise ConfigError where Prometheus's library is not installed."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"metrics needs prometheus-client, which cannot be imported ({error})",
            next_step="pip install 'edgeai[metrics]', or leave [metrics] out",
        ) from None


class Exporter:
    """Answers /metrics and /healthz while it is open (`with`). Nothing is counted for it: it reads what there is when asked,
    on a thread of its own.

    url: where, once it is open.
    """

    def __init__(
        self,
        settings: MetricsSettings,
        *,
        streams: Callable[[], Sequence[StreamFigures]],
        engines: Callable[[], Sequence[EngineFigures]] = lambda: (),
        counters: Callable[[], Counters] | None = None,
        device: str = "",
        fresh_s: float = FRESH_S,
    ) -> None:
        """streams, engines: those that there are at each scrape, asked by the exporter's thread. counters: of the sink, None for one that has none."""
        self.url = ""
        self._settings = settings
        self._streams = streams
        self._engines = engines
        self._counters = counters
        self._device = device
        self._fresh_s = fresh_s
        self._page: Reply | None = None
        self._page_s = 0.0
        self._render: Callable[[], bytes] = lambda: b""
        self._content_type = ""
        self._server: BoundedServer | None = None

    def open(self) -> None:
        """Listen, and answer from now on. Raises ConfigError where the library is missing or the address cannot be had."""
        check_library()
        from edgeai.exporter.families import CONTENT_TYPE, Exposition, FiguresCollector
        from edgeai.exporter.http_server import BoundedServer, open_socket

        self._content_type = CONTENT_TYPE
        collector = FiguresCollector(
            device=self._device, streams=self._streams, engines=self._engines, counters=self._counters
        )
        self._render = Exposition(collector).render
        host, port = self._settings.host, self._settings.port
        listener = open_socket(host, port)
        address, bound = listener.getsockname()[:2]
        self.url = f"http://[{address}]:{bound}" if ":" in address else f"http://{address}:{bound}"
        if not is_loopback(host):
            log.warning(
                "metrics: whoever reaches %s reads the figures, without a password or encryption", self.url
            )
        self._server = BoundedServer(listener, self._pages, name="metrics")
        self._server.start()
        log.info("metrics: %s/metrics", self.url)

    def close(self) -> None:
        """Safe to call twice."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def __enter__(self) -> Exporter:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def _pages(self, path: str) -> Reply | None:
        from edgeai.exporter.http_server import Reply

        if path == "/healthz":
            return Reply(b"ok\n")
        return self._figures() if path == "/metrics" else None

    def _figures(self) -> Reply:
        from edgeai.exporter.http_server import Reply

        page = self._page
        if page is None or time.monotonic() - self._page_s >= self._fresh_s:
            body = self._rendered()
            self._page = page = Reply(body, self._content_type, gzip.compress(body, _GZIP_LEVEL))
            self._page_s = time.monotonic()
        return page

    def _rendered(self) -> bytes:
        for attempt in range(_ATTEMPTS):
            try:
                return self._render()
            except (
                RuntimeError
            ):  # a stream came or went while they were counted: a dictionary changed its size
                if attempt == _ATTEMPTS - 1:
                    raise
        return b""
