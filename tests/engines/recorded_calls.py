"""A pytest plugin that writes down what the tests of Docker's engine had its client ask Docker for.

`python -m pytest -p tests.engines.recorded_calls` writes to the file that PLANE_TX_DOCKER_CALLS
names one JSON object a line: method, path, query, and what is said in the body's HostConfig.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.engines.fake_docker import FakeDocker, World

_calls: set[str] = set()


def _note(request: Any) -> None:
    body = request.content.getvalue()
    said = {
        "method": request.method.decode(),
        "path": request.path.decode(),
        "query": {name.decode(): value[0].decode() for name, value in request.args.items()},
        "host_config": sorted(json.loads(body).get("HostConfig", ())) if body else [],
    }
    _calls.add(json.dumps(said, sort_keys=True))


@pytest.fixture(autouse=True, scope="session")
def recorded() -> Any:
    """Note every request, but for those by which a test clears away what no server removes."""
    with pytest.MonkeyPatch.context() as patch:
        render, clear = FakeDocker.render, World._without_networks
        clearing: list[World] = []

        def noting(self: FakeDocker, request: Any) -> Any:
            if not clearing:
                _note(request)
            return render(self, request)

        async def unnoted(self: World) -> None:
            clearing.append(self)
            await clear(self)
            clearing.remove(self)

        patch.setattr(FakeDocker, "render", noting)
        patch.setattr(World, "_without_networks", unnoted)
        yield
    Path(os.environ["PLANE_TX_DOCKER_CALLS"]).write_text("\n".join(sorted(_calls)) + "\n")
