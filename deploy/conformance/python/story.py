"""Registers, signs in, makes a room, posts, reads history and is refused, all by the generated client."""

import sys
import time

from roomcast_client import ApiClient, Configuration, MessagesApi, RoomsApi, SignInApi, SignUpApi
from roomcast_client.exceptions import NotFoundException
from roomcast_client.models import Credentials, MessageDraft, Registration, Problem

ATTEMPTS = 100
PAUSE_S = 0.1

address, name, text = sys.argv[1:]
password = f"secret of {name}"

nobody = ApiClient(Configuration(host=address))
SignUpApi(nobody).register_user(Registration(email=name, username=name, password=password))
signed_in = SignInApi(nobody).log_in(Credentials(email=name, password=password))
somebody = ApiClient(Configuration(host=address, api_key={"token": signed_in.authorization}))

RoomsApi(somebody).create_room(name)
messages = MessagesApi(somebody)
messages.post_message(name, MessageDraft(message=text))
for _ in range(ATTEMPTS):
    history = messages.read_history(name)
    if history:
        break
    time.sleep(PAUSE_S)
# The creation of the room is the entry before it.
assert (history[0].message, history[0].username, history[0].seq) == (text, name, 2), history

try:
    messages.read_history(f"no-room-of-{name}")
    raise AssertionError("a room that nobody made has a history")
except NotFoundException as refused:
    problem = Problem.from_json(refused.body)
    assert problem.code == "room_not_found", problem
