"""What schemathesis is told beside openapi.json: see tests/test_schemathesis.py."""

import json
import os
import socket
import zlib
from typing import Any
from urllib.parse import urljoin

import requests
import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import RejectedPositiveData

from tests.control.contract import BEYOND_THE_SCHEMA

CONNECT = "POST /ctrl/connect"
KEEPALIVE = "POST /ctrl/b/{session_id}/keepalive"
LINK = "POST /ctrl/b/{session_id}/link"

#: A session that this server can make; it lives for seconds, so that a run has few at once.
SHORT_LIVED = {"executable": {"app": "echo"}, "lifetime_limit_seconds": 3}


@schemathesis.hook
def map_case(context: HookContext, case: Case) -> Case:
    """Let a quarter of what fits the document fit this very server too."""
    asked = json.dumps([case.path_parameters, case.body], default=repr)
    if case.meta.generation.mode.is_negative or zlib.crc32(asked.encode()) % 4:
        return case
    config = case.body.get("spawn_config") if isinstance(case.body, dict) else None
    if case.operation.label == CONNECT and config:
        config.update(SHORT_LIVED, cluster=None)
    if "cluster_name" in case.path_parameters:
        case.path_parameters["cluster_name"] = os.environ["PLANE_CLUSTER"]
    if "drone" in case.path_parameters:
        case.path_parameters["drone"] = socket.gethostname()
    return case


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Ask for leases and links of sessions that live: of earlier ones most have ended."""
    if case.operation.label in (KEEPALIVE, LINK) and case.meta.generation.mode.is_positive:
        wanted = {"spawn_config": SHORT_LIVED}
        url = urljoin(case.operation.base_url, "/ctrl/connect")
        made = requests.post(url, json=wanted, timeout=10).json()
        case.path_parameters["session_id"] = made["backend_id"]
        if isinstance(case.body, dict):
            case.body.pop("tag", None)  # it was made under none


@schemathesis.hook
def after_call(context: HookContext, case: Case, response: Response) -> None:
    """Take new sessions again after a drain, or there would be none from there on."""
    if case.method == "POST" and case.operation.path.endswith("/drain"):
        requests.delete(urljoin(response.request.url, "/ctrl/drain"), timeout=10)


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """Let a request be refused for what the document cannot say, and a schema does not know."""
    if not isinstance(failure, RejectedPositiveData) or response.status_code != 422:
        return True
    return not BEYOND_THE_SCHEMA.match(response.json()["message"])
