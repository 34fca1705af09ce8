"""Sessions for tests that do not care which token and secret theirs has."""

from typing import Any

from plane_tx.core.model import Executable, Key, Session, Spec, own_token

SECRET = "the-secret-of-a-session-in-a-test"


def make_session(  # noqa: PLR0917  # in the order of Session
    session_id: str = "id",
    key: Key = Key(""),  # noqa: B008  # frozen
    tag: str = "",
    spec: Spec = Spec(Executable()),  # noqa: B008  # frozen
    created_at: float = 0.0,
    fencing_token: int = 1,
    user: str | None = None,
    **values: Any,
) -> Session:
    values.setdefault("secret", SECRET)
    static = spec.use_static_token
    value = values.pop("token_value", f"{'s.' if static else ''}{'o' * 43}")
    token = own_token(value, session_id, values["secret"], static=static)
    return Session(
        session_id, key, tag, spec, created_at, fencing_token, token, user=user, **values
    )
