"""Follows each stream whose URL is named, with PyPI `sseclient-py`, and tells every event as a line of JSON."""

import json
import os
import sys
import threading
import time

import requests
import sseclient

# Seconds for connecting, and between two bytes: a server that is quiet sends a ping every 15 seconds.
TIMEOUT = (10, 50)
# How long to wait before coming back, in seconds, until the server has said how long.
AGAIN_AFTER_S = 3.0


def follow(url: str, stream: int) -> None:
    headers = {"Authorization": os.environ["ROOMCAST_TOKEN"], "Accept": "text/event-stream"}
    wait = AGAIN_AFTER_S
    while True:
        try:
            with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
                response.raise_for_status()
                for event in sseclient.SSEClient(response).events():
                    if event.id:
                        headers["Last-Event-ID"] = event.id
                    if event.retry:
                        wait = int(event.retry) / 1000
                    tell({"stream": stream, "event": event.event, "id": event.id, "data": event.data})
        except requests.RequestException:
            pass
        time.sleep(wait)


def tell(event: dict) -> None:
    # One write, so that the lines of two threads do not mix.
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


for number, one in enumerate(sys.argv[1:]):
    threading.Thread(target=follow, args=(one, number)).start()
