"""The form that starts a session: an image with limits, and what is refused by its field."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.dashboard import Dashboard
from tests.browser.places import end_all, place
from tests.browser.watched import Watched
from tests.live import LiveServer, live_server

pytestmark = pytest.mark.chromium

IMAGE = "plane-tx-test/busybox"
SERVES = "mkdir /tmp/w; echo $GREETING > /tmp/w/index.html; httpd -f -p 9000 -h /tmp/w"


@pytest.fixture(scope="module")
def on_docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with place("docker") as its, live_server(tmp_path_factory.mktemp("server"), its.conf) as run:
        yield run
        end_all(run)


@pytest.mark.docker
def test_an_image_is_started_with_what_was_filled_in(page: Page, on_docker: LiveServer) -> None:
    form = Dashboard(page, on_docker.control).open().new_session().kind("Image")
    form.fill(Image=IMAGE, Command=f'sh -c "{SERVES}"', Port="9000", Key="pictured")
    form.fill(Memory="64 MiB", CPUs="0.5").fill(**{"Max idle": "10 min", "Max lifetime": "2 h"})
    form.add("variable", "GREETING", "hello")

    session = form.start()

    expect(session.status).to_have_text("ready")
    made = on_docker.session(session.session_id)
    assert (made["image"], made["key"]["name"]) == (IMAGE, "pictured")
    assert made["limits"]["max_idle_seconds"] == 600
    assert made["limits"]["lifetime_limit_seconds"] == 7200
    assert made["resource_limits"]["memory_limit_bytes"] == 64 << 20
    assert made["resource_limits"]["cpus"] == 0.5
    expect(session.facts).to_contain_text("idle 10 m, lifetime 2 h, 0.5 CPUs, memory 64 MiB")
    with page.context.expect_page() as opened:
        session.button("Open").click()
    expect(opened.value.get_by_text("hello")).to_be_visible()


def test_without_containers_no_image_is_offered(page: Page, on_processes: LiveServer) -> None:
    form = Dashboard(page, on_processes.control).open().new_session()

    expect(form.form.get_by_role("combobox", name="App")).to_be_visible()
    expect(form.form.get_by_role("radio", name="Image")).to_have_count(0)


def test_what_cannot_be_read_is_told_by_its_field_and_nothing_is_asked(
    page: Page, on_processes: LiveServer
) -> None:
    form = Dashboard(page, on_processes.control).open().new_session().app("program")

    form.fill(Memory="much").press_start()

    memory = form.form.get_by_label("Memory", exact=True)
    expect(memory).to_have_accessible_description(re.compile("expected a size"))
    expect(memory).to_be_focused()


def test_what_the_server_refuses_is_told_by_its_field(
    page: Page, on_processes: LiveServer, watched: Watched
) -> None:
    watched.allow("status of 422")
    form = Dashboard(page, on_processes.control).open().new_session().app("program")

    form.add("variable", "NOT_FOR_REQUESTS", "1").press_start()

    environment = form.form.get_by_role("group", name="Environment")
    expect(environment).to_contain_text("lets no request set 'NOT_FOR_REQUESTS'")
