import pytest

from plane_tx import __version__

NODE = {
    "plane_version": __version__,
    "plane_hash": "",
    "controller": "box",
    "controller_heartbeat_age": 0,
}


def test_the_server_is_the_one_drone_and_the_one_proxy_of_its_cluster(ask, spawn):
    spawn("a")

    answer = ask("GET", "/ctrl/c/localhost:9090/state")

    assert answer.json == {
        "drones": [
            {
                "ready": True,
                "draining": False,
                "last_heartbeat_age": 0,
                "backend_count": 1,
                "node": {"name": {"Drone": "box"}, **NODE},
            }
        ],
        "proxies": [{"name": {"Proxy": "box"}, **NODE}],
    }


def test_an_unknown_cluster_is_empty(ask):
    answer = ask("GET", "/ctrl/c/elsewhere/state")

    assert (answer.status, answer.json) == (200, {"drones": [], "proxies": []})


def test_the_drone_drains_and_says_whether_that_is_news(ask):
    answers = [ask("POST", "/ctrl/c/localhost:9090/d/box/drain").json for _ in range(2)]

    assert answers == [{"updated": True}, {"updated": False}]
    assert ask("GET", "/ctrl/c/localhost:9090/state").json["drones"][0]["draining"] is True


@pytest.mark.parametrize("path", ["localhost:9090/d/another", "elsewhere/d/box"])
def test_another_drone_is_not_here(ask, path):
    answer = ask("POST", f"/ctrl/c/{path}/drain")

    assert (answer.status, answer.json["kind"]) == (404, "NotFound")
    assert "'box' in 'localhost:9090'" in answer.json["message"]


def test_a_draining_server_refuses_spawns_and_serves_who_is_there(ask, spawn):
    backend = spawn("a")["backend_id"]
    drained = ask("POST", "/ctrl/drain").json
    config = {"executable": {"image": "counter"}}

    refused = ask("POST", "/ctrl/connect", body={"spawn_config": config})
    joined = ask("POST", "/ctrl/connect", body={"key": {"name": "a"}})

    assert drained == {"updated": True, "draining": True, "sessions": 1}
    assert (refused.status, refused.json["kind"]) == (503, "NoDroneAvailable")
    assert "retry-after" in refused.headers
    assert joined.json["backend_id"] == backend


def test_a_drain_can_be_taken_back(ask, spawn):
    ask("POST", "/ctrl/drain")

    undone = [ask("DELETE", "/ctrl/drain").json["updated"] for _ in range(2)]

    assert undone == [True, False]
    assert ask("GET", "/ctrl/drain").json == {"draining": False, "sessions": 0}
    assert spawn("a")["spawned"] is True
