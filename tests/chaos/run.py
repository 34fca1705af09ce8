"""Does harm to a real server on a Docker of its own, and looks after each harm whether all holds.

    python -m tests.chaos.run --seconds 600 --seed 1
    python -m tests.chaos.run --kills 200

Needs root: everything happens in namespaces of its own, and is gone when this process is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random

from tests.chaos.docker import IMAGE, OwnDaemon
from tests.chaos.killed import Killed
from tests.chaos.server import clock_can_step
from tests.chaos.steps import STEPS
from tests.chaos.world import World

#: How soon after the server listens again a link that worked before must (issue 6).
REACHED_SECONDS = 2.0

_FOLDER = "PLANE_TX_CHAOS_FOLDER"


def run_apart() -> int:
    """Run this program where the network, the mounts and the processes are its own; its status."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    # The first process of a namespace has to reap the orphans.
    command += ["docker-init", "--", sys.executable, "-m", "tests.chaos.run", *sys.argv[1:]]
    environment = {**os.environ, _FOLDER: str(folder)}
    status = subprocess.run(command, env=environment, check=False).returncode
    if status == 0:
        # Not earlier: what is mounted below it went with the namespace.
        shutil.rmtree(folder)
    return status


def plan(seed: int, names: list[str]) -> Iterator[Callable[[World], None]]:
    """The steps of these names, or else steps without end that `seed` decides."""
    if names:
        by_name = {each.__name__: each for each in STEPS}
        yield from (by_name[name] for name in names)
        return
    random = Random(seed)
    while True:
        yield from random.choices([*STEPS], [*STEPS.values()])


def run(world: World, steps: Iterable[Callable[[World], None]], until: float) -> None:
    """Take these steps, but none after that time or when something is found."""
    world.start()
    for number, step in enumerate(steps):
        if time.monotonic() > until or world.findings.all:
            break
        say(f"step {number}: {step.__name__}")
        step(world)
        world.wait(0.3, 2)
        world.rules.check()
    say(f"ends: {world.ends()}")
    world.close()


def kill(folder: Path, kills: int, seed: int, images_from: str) -> Killed:
    """Kill the server so often, on a Docker of its own."""
    daemon = OwnDaemon(folder)
    daemon.start(spare=False)
    daemon.load(IMAGE, images_from)
    killed = Killed(folder, daemon.path, "chaos", seed)
    killed.run(kills, REACHED_SECONDS)
    say(f"the slowest link worked {killed.slowest_seconds:.2f} s after the server listened")
    daemon.remove()
    return killed


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)  # noqa: T201  # the run's own output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--kills", type=int, default=0, help="only kill the server, so often")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--pace", type=float, default=1.0, help="how long to wait between, of 1")
    parser.add_argument("--take", nargs="*", default=[], help="these steps, in this order")
    parser.add_argument("--docker", default="/var/run/docker.sock", help="where the image is")
    asked = parser.parse_args()
    if _FOLDER not in os.environ:
        sys.exit(run_apart())
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    folder = Path(os.environ[_FOLDER])
    say(f"seed {asked.seed}, in {folder}")
    if not clock_can_step():
        say("the clock is let be: there is no libfaketime")
    ran: Killed | World
    if asked.kills:
        ran = kill(folder, asked.kills, asked.seed, asked.docker)
    else:
        ran = World(folder, asked.seed, asked.docker, asked.pace)
        run(ran, plan(asked.seed, asked.take), time.monotonic() + asked.seconds)
    say(str(ran.clients.counts))
    if ran.findings.all:
        shutil.copytree(folder / "state", folder / "state.found")  # the other goes when we do
        found = "\n".join(ran.findings.all)
        sys.exit(f"found with seed {asked.seed} (logs and state are in {folder}):\n{found}")
    say("nothing was found")


if __name__ == "__main__":
    main()
