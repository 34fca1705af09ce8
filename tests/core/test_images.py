"""References to images: what they name, in full too, and which of them are allowed."""

import pytest

from plane_tx.core.images import Image, is_allowed

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "image", "said"),
    [
        ("app", Image("app", "latest"), "app:latest"),
        ("app:1.2", Image("app", "1.2"), "app:1.2"),
        ("me/app", Image("me/app", "latest"), "me/app:latest"),
        ("localhost:5000/me/app", Image("localhost:5000/me/app", "latest"), None),
        ("Reg.Example:5000/a__b/c-d:V_1", Image("Reg.Example:5000/a__b/c-d", "V_1"), None),
        ("[::1]:5000/app", Image("[::1]:5000/app", "latest"), None),
        (f"app@{DIGEST}", Image("app", digest=DIGEST), f"app@{DIGEST}"),
        (f"app:1@{DIGEST}", Image("app", digest=DIGEST), f"app@{DIGEST}"),
    ],
)
def test_a_reference_names_one_image(text: str, image: Image, said: str | None) -> None:
    assert Image.parse(text) == image
    assert said is None or str(image) == said


@pytest.mark.parametrize(
    "text",
    ["", "App", "app:", "app@sha256:12", "app\n", "My App", "/app", "../app", "-/app", "a..b/app"],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no image reference"):
        Image.parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("app", "docker.io/library/app:latest"),
        ("docker.io/app:1", "docker.io/library/app:1"),
        ("index.docker.io/app", "docker.io/library/app:latest"),
        ("me/app", "docker.io/me/app:latest"),
        ("me/library/app", "docker.io/me/library/app:latest"),
        ("ghcr.io/me/app:2", "ghcr.io/me/app:2"),
        ("localhost/app", "localhost/app:latest"),
        ("registry:5000/app", "registry:5000/app:latest"),
        ("REGISTRY/app", "REGISTRY/app:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        (f"app@{DIGEST}", f"docker.io/library/app@{DIGEST}"),
        (DIGEST, DIGEST),
        ("sha256:0123", "sha256:0123"),
        (f"sha256@{DIGEST}", f"docker.io/library/sha256@{DIGEST}"),
    ],
)
def test_in_full_a_reference_has_the_registry_that_docker_would_ask(text: str, said: str) -> None:
    assert str(Image.parse(text).in_full) == said


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("ghcr.io/me/app", True),
        ("ghcr.io/me/deep/app:7", True),
        ("ghcr.io/you/app", False),
        ("busybox:1.36", True),
        ("busybox:1.37", False),
        ("evil.example/ghcr.io/me/app", False),
        ("Ghcr.io/me/app", False),
    ],
)
def test_an_image_is_allowed_when_it_is_in_full_like_one_of_the_globs(
    text: str, allowed: bool
) -> None:
    globs = ("ghcr.io/me/*", "docker.io/library/busybox:1.36")

    assert is_allowed(Image.parse(text), globs) is allowed


def test_an_image_named_by_its_id_is_from_no_registry_that_is_allowed() -> None:
    assert not is_allowed(Image.parse(DIGEST), ("docker.io/*", "*/library/*"))
    assert is_allowed(Image.parse(DIGEST), ("sha256:*",))
