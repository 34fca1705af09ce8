"""No page leads nowhere: neither in the checkout nor, where it can be seen from here, beyond it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from docs.making.links import external, local, written
from tests.docs.pages import ROOT

#: Where pages may lead to; `make links` asks them.
HOSTS = {
    "github.com",
    "keepachangelog.com",
}

WRITTEN = written()
NAMES = [str(path.relative_to(ROOT)) for path in WRITTEN]


@pytest.mark.parametrize("path", WRITTEN, ids=NAMES)
def test_every_link_to_another_site_is_https_and_to_a_known_host(path: Path) -> None:
    links = [urlsplit(url) for url in external(path.read_text())]

    strange = [url.geturl() for url in links if url.scheme != "https" or url.hostname not in HOSTS]

    assert strange == []


@pytest.mark.parametrize("path", WRITTEN, ids=NAMES)
def test_every_link_to_a_file_leads_to_one(path: Path) -> None:
    links = [link.partition("#")[0] for link in local(path.read_text())]

    missing = [link for link in links if link and not (path.parent / link).is_file()]

    assert missing == []
