"""The harm that the suite does, one function each; `STEPS` says how often each is chosen."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from tests.chaos.server import clock_can_step
from tests.chaos.world import USUAL_ODDS, World

#: How long a container may take to run out of memory.
STARVED_SECONDS = 10.0


def kill_server(world: World) -> None:
    """The out-of-memory killer came by."""
    world.server.kill()
    world.wait(0, 2)
    world.server.start()


def stop_server(world: World) -> None:
    """An upgrade."""
    world.server.stop()
    world.wait(0, 2)
    world.server.start()


def kill_server_twice(world: World) -> None:
    """Once more while it takes up what it finds."""
    for _ in range(2):
        world.server.kill()
        world.server.start()


def crash_docker(world: World) -> None:
    """The daemon dies and comes back; containers do not notice."""
    world.daemon.kill()
    world.wait(0, 3)
    world.daemon.start(spare=True)


def restart_docker(world: World) -> None:
    """The daemon takes all its containers along."""
    world.rules.harmed |= {each.session_id for each in world.docker.containers()}
    world.daemon.kill()
    world.wait(0, 3)
    world.daemon.start(spare=False)
    world.rules.harmed |= {each.session_id for each in world.docker.containers()}
    world.daemon.kill()
    world.daemon.start(spare=True)


def crash_both(world: World) -> None:
    """Docker and the server die at once, and the server is back first."""
    world.server.kill()
    world.daemon.kill()
    world.server.start()
    world.wait(0, 3)
    world.daemon.start(spare=True)


def kill_container(world: World) -> None:
    """`docker kill`, by hand."""
    if victim := world.victim():
        world.docker.do("kill", victim.id)


def stop_container(world: World) -> None:
    """`docker stop`, by hand."""
    if victim := world.victim():
        world.docker.do("stop?t=1", victim.id)


def remove_container(world: World) -> None:
    """`docker rm -f`, by hand."""
    if victim := world.victim():
        world.docker.ask("DELETE", f"/containers/{victim.id}?force=1")


def starve_container(world: World) -> None:
    """It takes more memory than it may."""
    if victim := world.victim():
        command = ["docker", "--host", f"unix://{world.docker.path}", "exec", "--detach", victim.id]
        eat = "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/eat')"
        subprocess.run([*command, "python3", "-c", eat], check=False, capture_output=True)
        deadline = time.monotonic() + STARVED_SECONDS
        while world.docker.process_of(victim.id) and time.monotonic() < deadline:
            time.sleep(0.1)


def pause_container(world: World) -> None:
    """`docker pause`, by hand, and after a while `docker unpause`."""
    if victim := world.victim():
        world.rules.unreachable.add(victim.session_id)
        world.docker.do("pause", victim.id)
        world.wait(1, 8)
        world.docker.do("unpause", victim.id)
        world.rules.unreachable.discard(victim.session_id)


def blackhole(world: World) -> None:
    """A container's network swallows every packet for a while."""
    victim = world.victim()
    process = world.docker.process_of(victim.id) if victim else 0
    if victim and process:
        world.rules.unreachable.add(victim.session_id)
        inside = ["nsenter", "--net", "--target", str(process), "iptables"]
        for change in ("-A", "-D"):
            # It may have ended meanwhile.
            rule = [*inside, change, "INPUT", "-i", "eth0", "-j", "DROP"]
            subprocess.run(rule, check=False, capture_output=True)
            world.wait(*((1, 8) if change == "-A" else (0, 0)))
        world.rules.unreachable.discard(victim.session_id)


def fill_disk(world: World) -> None:
    """No byte is free where the state is; sometimes the server dies of something else then."""
    ballast = world.state / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    world.wait(1, 4)
    if world.random.random() < 0.5:
        world.server.kill()
        ballast.unlink()
        world.server.start()
    ballast.unlink(missing_ok=True)


def lose_journal(world: World) -> None:
    """The journal is damaged: links of users are lost with it, but nothing else."""
    world.server.kill()
    for file in world.state.glob("*.sqlite3*"):
        file.write_bytes(world.random.randbytes(8192))
    world.server.start()
    world.clients.promises.clear()


def step_clock(world: World) -> None:
    """The time of day jumps; it stays so until the next jump."""
    world.server.step_clock(world.random.choice([-3600, -20, 0, 20, 3600]))
    world.wait(1, 3)


def lose_docker(world: World) -> None:
    """Nothing answers at Docker's socket."""
    world.socket.tell(away=True)
    world.wait(0, 4)
    world.socket.tell(away=False)


def cut_docker(world: World) -> None:
    """Every connection to Docker breaks at once."""
    world.socket.tell(cut=True)


def fail_often(world: World) -> None:
    """For a while a third of what Docker is asked goes wrong."""
    world.socket.tell(odds={"error": 0.15, "stall": 0.05, "reset": 0.05, "lost": 0.08})
    world.wait(2, 8)
    world.socket.tell(odds=USUAL_ODDS)


def calm(_: World) -> None:
    """Nothing but the load."""


STEPS: dict[Callable[[World], None], int] = {
    kill_server: 6,
    kill_server_twice: 2,
    stop_server: 2,
    crash_docker: 2,
    restart_docker: 2,
    crash_both: 1,
    kill_container: 3,
    stop_container: 1,
    remove_container: 2,
    starve_container: 2,
    pause_container: 2,
    blackhole: 2,
    fill_disk: 2,
    lose_journal: 1,
    step_clock: 2 if clock_can_step() else 0,
    lose_docker: 2,
    cut_docker: 2,
    fail_often: 3,
    calm: 2,
}
