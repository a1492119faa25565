"""Follows each stream whose URL is named, with PyPI `httpx-sse`, and tells every event as a line of JSON."""

import json
import os
import sys
import threading
import time

import httpx
from httpx_sse import connect_sse

# A server that is quiet sends a ping every 15 seconds: after three of them were due it is gone.
TIMEOUT = httpx.Timeout(10, read=50)
# How long to wait before coming back, in seconds, until the server has said how long.
AGAIN_AFTER_S = 3.0


def follow(url: str, stream: int) -> None:
    headers = {"Authorization": os.environ["ROOMCAST_TOKEN"]}
    wait = AGAIN_AFTER_S
    with httpx.Client(timeout=TIMEOUT) as client:
        while True:
            try:
                with connect_sse(client, "GET", url, headers=dict(headers)) as source:
                    source.response.raise_for_status()
                    for event in source.iter_sse():
                        if event.id:
                            headers["Last-Event-ID"] = event.id
                        if event.retry is not None:
                            wait = event.retry / 1000
                        tell({"stream": stream, "event": event.event, "id": event.id, "data": event.data})
            except httpx.HTTPError:
                pass
            time.sleep(wait)


def tell(event: dict) -> None:
    # One write, so that the lines of two threads do not mix.
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


for number, one in enumerate(sys.argv[1:]):
    threading.Thread(target=follow, args=(one, number)).start()
