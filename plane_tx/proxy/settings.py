"""What the configuration says about the proxy, as its parts take it."""

from __future__ import annotations

import attrs

from plane_tx.core.forwarded import TrustedProxies
from plane_tx.proxy.pages import Pages, own_pages


@attrs.frozen
class ProxySettings:
    """See conf/plane.toml; 0 seconds mean never, 0 bytes no limit."""

    root_redirect_url: str = ""
    ws_ping_seconds: float = 30.0
    max_message_bytes: int = 0
    idle_timeout_seconds: float = 0.0
    shutdown_seconds: float = 10.0
    trusted_proxies: TrustedProxies = TrustedProxies()
    waiting_page: bool = True
    waiting_logs: bool = False
    pages: Pages = attrs.field(factory=own_pages)
