"""Who calls, and how long a stream may take."""

import os
import unicodedata

import requests
import schemathesis

ADDRESS = os.environ["ROOMCAST_ADDRESS"]
TOKEN = os.environ["ROOMCAST_TOKEN"]
USER = os.environ["ROOMCAST_USER"]

# A stream ends after so many seconds, unless the case asks for something that is refused.
STREAM_ENDS_AFTER_S = 1


def log_in() -> str:
    """A session of its own, for the call that ends it."""
    answer = requests.post(f"{ADDRESS}/auth/login", json={"email": USER, "password": f"secret of {USER}"}, timeout=20)
    answer.raise_for_status()
    return answer.json()["Authorization"]


if TOKEN:

    @schemathesis.auth(refresh_interval=None)
    class SignedIn:
        def get(self, case, context):
            return log_in() if case.operation.label == "POST /auth/logout" else TOKEN

        def set(self, case, token, context):
            case.headers = {**(case.headers or {}), "Authorization": token}


@schemathesis.hook
def before_call(context, case, kwargs) -> None:
    if case.operation.label not in {"GET /chat/{room}/message", "GET /user/events"}:
        return
    query = dict(case.query or {})
    wait = query.get("wait_s", STREAM_ENDS_AFTER_S)
    if isinstance(wait, int) and not isinstance(wait, bool) and wait >= STREAM_ENDS_AFTER_S:
        query["wait_s"] = STREAM_ENDS_AFTER_S if "wait_s" not in query or wait <= 300 else wait
        case.query = query


@schemathesis.hook
def filter_body(context, body) -> bool:
    """Leaves out messages in which nothing can be seen: they are refused, and no pattern says so."""
    text = body.get("message") if isinstance(body, dict) else None
    if not isinstance(text, str):
        return True
    return any(unicodedata.category(character) not in {"Cc", "Cf", "Cn", "Zs", "Zl", "Zp"} for character in text)
