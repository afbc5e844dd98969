"""Clients that other people wrote, unmodified, at each door but our own protocol's.

TICKCAST_BIN: the server (default: target/release/tickcast). NODE_MODULES: where package.json here is installed.
One line a check, then `N passed, N failed`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import httpx
import requests
import socketio
import sseclient
from httpx_sse import connect_sse

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("TICKCAST_BIN", ROOT / "target/release/tickcast")
NODE_MODULES = os.environ.get("NODE_MODULES", Path(__file__).parent)
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# The number of the trade after the last one that is waited for.
TRADES = 40


class Server:
    """A server that serves what is published to it, on the same port each time it is started."""

    def __init__(self, port: int = 0):
        command = [str(BINARY), "serve", "--feed", "none", "--listen", f"127.0.0.1:{port}"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
        line = next(line for line in self.process.stdout if "http://" in line)
        self.url = "http://" + line.split("http://")[1].strip().rstrip("/")
        self.port = int(self.url.rpartition(":")[2])

    def publish(self, sizes) -> int:
        lines = [{"type": "trade", "symbol": "A", "price": "1.5", "size": size} for size in sizes]
        body = "\n".join(json.dumps(line) for line in lines).encode()
        with OPENER.open(urllib.request.Request(f"{self.url}/v1/publish", body)) as answer:
            return json.load(answer)["position"]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


def numbers(message: dict) -> list[int]:
    return [trade["number"] for entry in message.get("updates", []) for trade in entry.get("trades", [])]


def by_httpx(url: str, last_id: str = ""):
    """With httpx's own timeout of 5 s."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    with httpx.Client(trust_env=False) as client, connect_sse(client, "GET", url, headers=headers) as source:
        for event in source.iter_sse():
            yield event.id, json.loads(event.data)


def by_sseclient(url: str, last_id: str = ""):
    session = requests.Session()
    session.trust_env = False
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
    for event in sseclient.SSEClient(session.get(url, stream=True, headers=headers)).events():
        yield event.id, json.loads(event.data)


def by_lines(url: str, last_id: str = ""):
    session = requests.Session()
    session.trust_env = False
    url = url.replace("/v1/sse", "/v1/lines") + (f"&since={last_id}" if last_id else "")
    epoch = None
    for line in session.get(url, stream=True).iter_lines():
        message = json.loads(line)
        epoch = message.get("epoch", epoch)
        # A part of a flush is no place to go on from.
        is_place = message["type"] == "update" and not message.get("more")
        yield f"{epoch}-{message['position']}" if is_place else None, message


def take(events, upto: int) -> tuple[str, list[int]]:
    """The trades up to that number, and the last id."""
    found, last_id = [], ""
    for event_id, message in events:
        last_id = event_id or last_id
        found += numbers(message)
        if found and found[-1] >= upto:
            return last_id, found
    raise RuntimeError(f"it ended with {found[-3:]}")


def goes_on_where_it_was(client) -> list[str]:
    server = Server()
    try:
        server.publish(range(1, 11))
        url = f"{server.url}/v1/sse?topics=trades:A"
        last_id, first = take(client(url), 9)
        server.publish(range(11, TRADES + 1))
        _, second = take(client(url, last_id), TRADES - 1)
        expected = list(range(TRADES))
        return [] if first + second == expected else [f"{first} and then {second}"]
    finally:
        server.stop()


def lives_through_silence(client) -> list[str]:
    """Seven seconds in which nothing happens are more than httpx waits for."""
    server = Server()
    try:
        server.publish([1])
        began = time.monotonic()
        for _, _ in client(f"{server.url}/v1/sse?topics=trades:A"):
            if time.monotonic() > began + 7:
                return []
        return ["it ended"]
    finally:
        server.stop()


def eventsource_comes_back_by_itself() -> list[str]:
    """A server that ends in order, and one at the same address that has nothing of the old tape."""
    server = Server()
    try:
        server.publish(range(1, 11))
        script = Path(__file__).parent / "eventsource.mjs"
        url = f"{server.url}/v1/sse?topics=trades:A"
        child = subprocess.Popen(
            ["node", script, NODE_MODULES, url, str(20)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        until_connected(server, child)
        server.stop()
        server = Server(server.port)
        server.publish(range(1, 11))
        out, err = child.communicate(timeout=60)
        if child.returncode:
            return [err]
        said = json.loads(out)
        return [] if said["numbers"] == [*range(10), *range(10)] and said["lastEventId"] else [out]
    finally:
        server.stop()


def until_connected(server: Server, child: subprocess.Popen) -> None:
    """A client is there when the server counts it."""
    while "tickcast_connections{shard=\"0\"} 1" not in OPENER.open(f"{server.url}/metrics").read().decode():
        if child.poll() is not None:
            raise RuntimeError(f"it ended: {child.stderr.read()}")


def socketio_client_survives_a_restart(transports: str) -> list[str]:
    """npm's client, with acknowledgements, errors, and a server that is replaced by another."""
    server = Server()
    try:
        server.publish(range(1, 11))
        script = Path(__file__).parent / "socketio.mjs"
        child = subprocess.Popen(
            ["node", script, NODE_MODULES, server.url, transports, str(20)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if child.stdout.readline() != "half\n":
            return [child.stderr.read()]
        server.stop()
        server = Server(server.port)
        server.publish(range(1, 11))
        out, err = child.communicate(timeout=60)
        if child.returncode:
            return [err]
        saw = json.loads(out)
        expected = {
            "numbers": [*range(10), *range(10)],
            "connects": 2,
            # Another server's tape is another epoch.
            "resumed": [None, False],
            "transports": ["polling" if transports == "polling" else "websocket"],
            "answer": ["quote:A", "trades:A"],
            "error": "unknown_topic",
        }
        return [] if saw == expected else [out]
    finally:
        server.stop()


def socketio_client_shares_a_connection(parser: str, transports: str) -> list[str]:
    """npm's client, which puts several namespaces on one connection by itself."""
    server = Server()
    try:
        server.publish([1])
        script = Path(__file__).parent / "namespaces.mjs"
        child = subprocess.Popen(
            ["node", script, NODE_MODULES, server.url, parser, transports, str(TRADES)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if child.stdout.readline() != "ready\n":
            return [child.stderr.read()]
        for size in range(2, TRADES + 1):
            server.publish([size])
        out, err = child.communicate(timeout=60)
        if child.returncode:
            return [err]
        saw = json.loads(out)
        expected = {
            "isShared": True,
            "numbers": list(range(TRADES)),
            "prices": True,
            "refused": "Invalid namespace",
            "left": "io client disconnect",
            "pong": "pong",
        }
        return [] if saw == expected else [out]
    finally:
        server.stop()


def python_socketio_shares_a_connection(serializer: str) -> list[str]:
    """python-socketio in two namespaces, one of which it leaves."""
    server = Server()
    try:
        server.publish(range(1, 11))
        client = socketio.Client(serializer=serializer, reconnection=False)
        found, is_traded, is_priced = [], threading.Event(), threading.Event()

        def traded(message: dict) -> None:
            found.extend(numbers(message))
            if len(found) == TRADES:
                is_traded.set()

        client.on("update", traded)
        client.on("update", lambda message: message["updates"] and is_priced.set(), namespace="/desk")
        path = "socket.io/msgpack" if serializer == "msgpack" else "socket.io"
        auth = {"topics": ["trades:A"]}
        # It says the same of itself in each namespace, so another one opens the room, with a seed.
        session = requests.Session()
        session.trust_env = False
        opener = session.get(f"{server.url}/v1/lines?room=desk&seed=7&topics=status", stream=True)
        client.connect(server.url, socketio_path=path, namespaces=["/", "/desk"], auth=auth)
        server.publish(range(11, TRADES + 1))
        client.call("subscribe", "quote:*", namespace="/desk")
        if not is_traded.wait(30) or not is_priced.wait(30):
            return [f"only {found}"]
        kinds = [client.call("ping", namespace=namespace)["type"] for namespace in ("/", "/desk")]
        client.disconnect()
        opener.close()
        return [] if found == list(range(TRADES)) and kinds == ["pong", "pong"] else [f"{found} {kinds}"]
    finally:
        server.stop()


def python_socketio_goes_on_where_it_was(transports: list[str], serializer: str = "default") -> list[str]:
    """python-socketio, which connects its namespace only after the upgrade."""
    path = "socket.io/msgpack" if serializer == "msgpack" else "socket.io"
    server = Server()
    try:
        server.publish(range(1, 11))
        found, place = [], {}

        def run(upto: int) -> None:
            client = socketio.Client(serializer=serializer, reconnection=False)
            done = threading.Event()
            client.on("welcome", lambda welcome: place.update(epoch=welcome["epoch"]))

            def update(message: dict) -> None:
                found.extend(numbers(message))
                if not message.get("more"):
                    place["position"] = message["position"]
                if found and found[-1] >= upto:
                    done.set()

            client.on("update", update)
            since = place if "position" in place else None
            auth = {"topics": ["trades:A"], "since": since}
            client.connect(server.url, socketio_path=path, transports=transports, auth=auth)
            if not done.wait(30):
                raise RuntimeError(f"only {found[-3:]}")
            if client.call("ping")["type"] != "pong":
                raise RuntimeError("no pong")
            client.disconnect()

        run(9)
        server.publish(range(11, TRADES + 1))
        run(TRADES - 1)
        return [] if found == list(range(TRADES)) else [f"{found}"]
    finally:
        server.stop()


def main() -> int:
    passed = failed = 0
    checks = [
        (f"{name} {what}", lambda test=test, client=client: test(client))
        for name, client in (("httpx-sse", by_httpx), ("sseclient-py", by_sseclient), ("requests, lines", by_lines))
        for what, test in (("goes on where it was", goes_on_where_it_was), ("lives through silence", lives_through_silence))
    ]
    checks.append(("npm eventsource comes back by itself", eventsource_comes_back_by_itself))
    for transports in ("websocket", "polling", "polling,websocket"):
        checks.append(
            (
                f"npm socket.io-client survives a restart, by {transports}",
                lambda transports=transports: socketio_client_survives_a_restart(transports),
            )
        )
    for transports in (["websocket"], ["polling"], ["polling", "websocket"]):
        checks.append(
            (
                f"python-socketio goes on where it was, by {' and '.join(transports)}",
                lambda transports=transports: python_socketio_goes_on_where_it_was(transports),
            )
        )
    checks.append(
        (
            "python-socketio goes on where it was, in MessagePack",
            lambda: python_socketio_goes_on_where_it_was(["polling", "websocket"], "msgpack"),
        )
    )
    for parser in ("json", "msgpack"):
        for transports in ("websocket", "polling", "polling,websocket"):
            checks.append(
                (
                    f"npm socket.io-client shares a connection, in {parser} by {transports}",
                    lambda parser=parser, transports=transports: socketio_client_shares_a_connection(parser, transports),
                )
            )
    for serializer in ("default", "msgpack"):
        checks.append(
            (
                f"python-socketio shares a connection, serializer {serializer}",
                lambda serializer=serializer: python_socketio_shares_a_connection(serializer),
            )
        )
    for name, check in checks:
        try:
            problems = check()
        except Exception as error:  # What any of them raises is what is looked for.
            problems = [f"{type(error).__name__}: {str(error)[:300]}"]
        print("FAILED" if problems else "ok", name, "; ".join(problems), flush=True)
        failed += bool(problems)
        passed += not problems
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
