"""Asks for every page of other sites that README.md and docs/ link to; tells which is not there."""

from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]

_LINK = re.compile(
    r"\]\(([^)\s]+)\)|^\[[^\]]+\]:\s*(\S+)|\b(?:href|src|srcset)=\"([^\"\s]+)\"", re.MULTILINE
)
_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)

#: Sites that turn a program away which asks without a browser are none of ours to mend.
_TURNED_AWAY = {403, 429}


def written() -> list[Path]:
    """The pages of this checkout that people read."""
    beside = ["README.md", "CHANGELOG.md", "bench/RESULTS.md", "clients/js/README.md"]
    pages = [*ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/README.md")]
    return [*(ROOT / name for name in beside), *sorted(pages)]


def _links(text: str) -> list[str]:
    return ["".join(found) for found in _LINK.findall(_CODE.sub("", text))]


def external(text: str) -> list[str]:
    """The links of a page that lead to other sites, without their fragments."""
    return [link.partition("#")[0] for link in _links(text) if re.match(r"\w+:", link)]


def local(text: str) -> list[str]:
    """The links of a page to itself and to other files of the checkout."""
    return [link for link in _links(text) if not re.match(r"\w+:", link)]


def _fault(client: httpx.Client, url: str) -> str:
    try:
        status = client.get(url).status_code
    except httpx.HTTPError as error:
        return f"{url}: {error!r}"
    return f"{url}: {status}" if status >= 400 and status not in _TURNED_AWAY else ""


def main() -> int:
    """Ask for all of them; 1 when one is not there."""
    urls = sorted({url for page in written() for url in external(page.read_text())})
    with httpx.Client(follow_redirects=True, timeout=20) as client, ThreadPoolExecutor(8) as pool:
        faults = [fault for fault in pool.map(lambda url: _fault(client, url), urls) if fault]
    print("\n".join(faults) or f"all {len(urls)} pages of other sites are there")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
