"""What plane.toml shows and does not say, because it is no default, can be said."""

from plane_tx.core.config import parse_config
from tests.conf.served import CONF, with_places


def test_the_app_that_is_shown_can_be_had() -> None:
    text, mark, shown = (CONF / "plane.toml").read_text().partition("# [apps.NAME]")
    app = "\n".join(line.removeprefix("# ") for line in (mark + shown).splitlines())
    given = with_places(text, {'mount_base = ""': 'mount_base = "/srv"'})

    config = parse_config(given + app, "plane.toml")

    assert config.apps["NAME"].image == "registry/name:tag"
    assert config.apps["NAME"].mount


def test_the_keys_that_are_shown_can_be_had() -> None:
    text = (CONF / "plane.toml").read_text()
    (shown,) = [line for line in text.splitlines() if line.startswith('# ["app:connect:')]
    keys = shown.removeprefix("# ").removesuffix(".").replace("SECRET", "of-sixteen-chars", 1)
    keys = keys.replace("SECRET", "of-16-characters")

    config = parse_config(text.replace("api_keys = []", f"api_keys = {keys}"), "plane.toml")

    assert len(config.control.api_keys) == 3
