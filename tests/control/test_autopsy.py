"""GET /ctrl/b/{id}/autopsy.tar.gz: what is answered, and to whom."""

import io
import json
import tarfile


def test_it_is_an_archive_to_be_saved(ask, mine, make_ready):
    make_ready("mine")

    answer = ask("GET", "/ctrl/b/mine/autopsy.tar.gz")

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/gzip"
    assert answer.headers["content-disposition"] == 'attachment; filename="mine.tar.gz"'
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        told = json.load(tar.extractfile("session.json"))
    assert told == ask("GET", "/ctrl/b/mine").json


def test_of_a_session_that_nobody_knows_there_is_none(ask):
    answer = ask("GET", "/ctrl/b/nobody/autopsy.tar.gz")

    assert (answer.status, answer.json["kind"]) == (404, "NotFound")


def test_neither_its_own_token_nor_its_secret_stands_in_it(ask, mine, make_ready, supervisor):
    make_ready("mine")

    answer = ask("GET", "/ctrl/b/mine/autopsy.tar.gz")

    session = supervisor.get("mine")
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        whole = b"".join(tar.extractfile(name).read() for name in tar.getnames()).decode()
    assert session.secret not in whole
    assert session.own_token.value not in whole
