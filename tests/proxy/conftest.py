import pytest

from tests.proxy.world import World


@pytest.fixture
def world():
    """A proxy in memory; after the test everybody leaves, and nothing may be left."""
    world = World()
    yield world
    world.finish()
