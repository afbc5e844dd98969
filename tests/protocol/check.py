#!/usr/bin/env python3
"""Proves client.py, and with it docs/protocol.md, against a running server.

    TICKCAST_BIN   the server (default: target/release/tickcast)

The words that the client has from the text are compared with `tests/vectors/schema.json`, which the server's tables write.

Histories are random and seeded: --seed N repeats one, as far as two processes can. --long reads slowly for 180 s
instead of 20 s; --only NAME runs the parts with that in their names. One line a check, then `N passed, N failed`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request
from collections import deque
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import msgpack
import websockets
from websockets.asyncio.client import connect

from client import COUNTS, DAY, FIELDS, FINAL, PRICES, SIDES, SIZES, STATES, Client, Market, Refused

ROOT = Path(__file__).resolve().parents[2]
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
KINDS = ("quote", "trades", "bars.1s", "bars.1m", "day", "status")
EVERYTHING = ("volume", "high_low", "last")
# What a trade has that says nothing else.
PLAIN = {"conditions": "", "counts": list(EVERYTHING)}
RINGS = ("trades", "bars.1s", "bars.1m")
passed = failed = 0


def check(name: str, problems) -> None:
    """One line. Of many problems the first ones tell enough."""
    global passed, failed
    problems = list(problems)
    if problems:
        failed += 1
        more = f" (and {len(problems) - 4} more)" if len(problems) > 4 else ""
        print(f"FAILED {name}: {'; '.join(str(it)[:400] for it in problems[:4])}{more}", flush=True)
    else:
        passed += 1
        print(f"ok {name}", flush=True)


def unless(holds: bool, problem: str) -> list[str]:
    return [] if holds else [problem]


# The server


class Server:
    """A server of its own port, ended by its own process id."""

    def __init__(self, *arguments: str, port: int = 0):
        binary = os.environ.get("TICKCAST_BIN", ROOT / "target/release/tickcast")
        command = [str(binary), "serve", "--listen", f"127.0.0.1:{port}", "--allow-faults", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
        for line in self.process.stdout:
            if found := re.search(r"127\.0\.0\.1:\d+", line):
                break
        else:
            raise RuntimeError(f"{binary} has told no address")
        self.address = found.group()
        self.url = f"ws://{self.address}/v1/ws"

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    async def http(self, path: str, body: bytes | None = None, content: str = "application/json"):
        def call():
            request = urllib.request.Request(f"http://{self.address}{path}", body, {"Content-Type": content})
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)

        return await asyncio.to_thread(call)

    async def publish(self, events: list[dict]) -> int:
        body = "\n".join(json.dumps(event) for event in events).encode()
        answer = await self.http("/v1/publish", body, "application/x-ndjson")
        if answer["rejected"] or answer["accepted"] != len(events):
            raise RuntimeError(f"publication rejected: {answer['rejected'][:3]}")
        return answer["position"]

    async def replay(self, action: str, **fields) -> dict:
        return await self.http("/v1/replay", json.dumps({"action": action, **fields}).encode())


@asynccontextmanager
async def serving(*arguments: str, port: int = 0):
    server = await asyncio.to_thread(lambda: Server(*arguments, port=port))
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)


@asynccontextmanager
async def running(server: Server, **options):
    client = Client(server.url, **{"delay": 0.03, **options})
    task = asyncio.create_task(client.run())
    client.task = task
    try:
        await asyncio.wait_for(client.ready.wait(), 20)
        yield client
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Refused):
            await task


async def settle(client: Client, position: int, seconds: float = 20) -> list[str]:
    end = time.monotonic() + seconds
    while not client.settled(position):
        if client.task.done():
            client.task.result()
        if time.monotonic() > end:
            topics = {name: (it.granted, it.live) for name, it in client.market.topics.items()}
            return [f"not settled at {position}, at {client.market.position}: {topics}, wanted {list(client.wanted)}"]
        await asyncio.sleep(0.01)
    return []


# What was published, and the client's view of it


class Truth:
    """What one publisher has said, by symbol."""

    def __init__(self, rng: random.Random, symbols: dict[str, str]):
        self.rng = rng
        self.symbols = symbols  # to their sectors
        self.quotes: dict[str, dict] = {}
        self.trades: dict[str, list[dict]] = {}
        self.states: dict[str | None, str] = {}
        self.decimals = dict.fromkeys(symbols, 2)
        self.prices = {symbol: rng.uniform(1, 500) for symbol in symbols}

    def instrument(self, symbol: str) -> dict:
        told = {"type": "instrument", "symbol": symbol, "sector": self.symbols[symbol], "name": symbol * 3}
        return told | ({"previous_close": "12.5"} if len(symbol) == 2 else {})

    def price(self, symbol: str) -> Decimal:
        self.prices[symbol] = max(0.5, self.prices[symbol] * self.rng.uniform(0.99, 1.01))
        return round(Decimal(self.prices[symbol]), self.decimals[symbol])

    def quote(self, symbol: str) -> dict:
        rng = self.rng
        # Most quotes change a field or two, as those of exchanges do.
        event = dict(self.quotes.get(symbol, {}))
        for side in ("bid", "ask"):
            if side not in event or rng.random() < 0.4:
                event[side] = None if rng.random() < 0.05 else self.price(symbol)
                event[f"{side}_size"] = Decimal(0 if event[side] is None else rng.randint(1, 900))
            elif rng.random() < 0.4 and event[side] is not None:
                event[f"{side}_size"] = Decimal(rng.randint(1, 900)) / rng.choice((1, 1, 1, 8))
        self.quotes[symbol] = event
        told = {field: None if kept is None else str(kept) for field, kept in event.items()}
        return {"type": "quote", "symbol": symbol, **told}

    def trade(self, symbol: str) -> dict:
        rng = self.rng
        event = {
            "price": self.price(symbol),
            "size": Decimal(rng.randint(1, 5000)),
            "side": rng.choice(("buy", "sell", "none")),
            "conditions": rng.choice(("", "", "", "I", "TIF")),
            "counts": list(rng.choice((EVERYTHING, EVERYTHING, EVERYTHING, ("volume",), ("volume", "day_high_low"), ()))),
        }
        moment = int(time.time() * 1_000_000) - rng.randint(0, 400_000)
        self.trades.setdefault(symbol, []).append({**event, "ts_event": moment})
        told = {**event, "price": str(event["price"]), "size": str(event["size"]), "ts_event": moment}
        if not told["conditions"]:
            del told["conditions"]
        if told["counts"] == list(EVERYTHING):
            del told["counts"]
        return {"type": "trade", "symbol": symbol, **told}

    def status(self, symbol: str | None) -> dict:
        self.states[symbol] = self.rng.choice(("pre-open", "open", "halted", "closed"))
        return {"type": "status", "state": self.states[symbol]} | ({"symbol": symbol} if symbol else {})

    def batch(self) -> list[dict]:
        rng = self.rng
        events = []
        for _ in range(rng.choice((1, 1, 2, 5, 20))):
            symbol = rng.choice(list(self.symbols))
            if rng.random() < 0.003 and self.decimals[symbol] < 6:
                self.decimals[symbol] += rng.randint(1, 2)
            choice = rng.random()
            if choice < 0.55:
                events.append(self.quote(symbol))
            elif choice < 0.96:
                events.append(self.trade(symbol))
            else:
                events.append(self.status(rng.choice((symbol, symbol, None))))
        return events

    def covers(self, topics, kind: str, symbol: str) -> bool:
        return any(name in topics for name in (f"{kind}:{symbol}", f"{kind}:*", f"{kind}:@{self.symbols[symbol]}"))

    def problems(self, client: Client):
        """How what a settled client keeps differs from what was published."""
        market, topics = client.market, client.wanted
        for symbol in self.symbols:
            covered = self.covers(topics, "quote", symbol)
            quote = self.quotes.get(symbol, {}) if covered else {}
            kept = {field: it for field, it in market.image("quote", symbol).items() if field != "ts_event"}
            if kept != quote:
                yield f"quote:{symbol} is {kept}, was published {quote}"
            state = self.states.get(symbol) if self.covers(topics, "status", symbol) else None
            kept = market.image("status", symbol).get("state")
            # An instrument of which no state was published may be told the one it begins with.
            if kept != state and not (state is None and kept == "open" and self.covers(topics, "status", symbol)):
                yield f"status:{symbol} is {kept}, was published {state}"
            trades = self.trades.get(symbol, []) if self.covers(topics, "trades", symbol) else []
            yield from numbered(client, "trades", symbol, trades)
        market_state = client.market.images.get((None, "status"), {}).get("state")
        if "status" in topics and None in self.states and market_state != self.states[None]:
            yield f"status is {market_state}, was published {self.states[None]}"


def numbered(client: Client, kind: str, symbol: str, published: list[dict]):
    """Each entry once and in order, or missed exactly; the last one had or missed."""
    entries, missed, expected = client.market.ring(kind, symbol)
    if (expected or 0) != len(published) and (expected is not None or published):
        yield f"{kind}:{symbol} is at {expected}, published were {len(published)}"
        return
    if not published:
        return
    yield from contiguous(kind, symbol, entries, missed)
    for entry in entries:
        told = {field: it for field, it in entry.items() if field != "number"}
        if told != published[entry["number"]]:
            yield f"{kind}:{symbol} {entry['number']} is {told}, was published {published[entry['number']]}"
            return


def contiguous(kind: str, symbol: str, entries: list[dict], missed: list[tuple[int, int]]):
    ranges = sorted([(it["number"], it["number"] + 1) for it in entries] + missed)
    for before, after in zip(ranges, ranges[1:]):
        if before[1] != after[0]:
            yield f"{kind}:{symbol}: {before} is followed by {after}"
            return
    if [it["number"] for it in entries] != sorted(it["number"] for it in entries):
        yield f"{kind}:{symbol} is out of order"


def image_topics(client: Client, symbols) -> list[str]:
    """The image topics of which the client keeps an image: of others the server has no checksum.

    Nor has it one of a day without a trade, of which only the previous close is told.
    """
    market = client.market
    return [
        f"{kind}:{symbol}"
        for symbol in symbols
        for kind in FIELDS
        if len(market.images.get((market.number(symbol), kind), {})) > (kind == "day")
    ]


async def compare_checksums(client: Client, symbols) -> list[str]:
    topics = image_topics(client, symbols)
    before = len(client.wrong)
    for start in range(0, len(topics), 64):
        answer = await client.checksum(topics[start : start + 64])
        if answer["type"] != "checksum":
            return [str(answer)]
    return client.wrong[before:]


def seconds(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(seconds=1)


async def compare_http(server: Server, client: Client, symbols) -> list[str]:
    """The client's quotes and bars against those of HTTP, at one position."""
    problems: list[str] = []
    for _ in range(20):
        problems = []
        market = client.market
        answer = await server.http("/v1/quotes")
        moments = {answer["position"]}
        quotes = {it["symbol"]: it for it in answer["quotes"]}
        for symbol in symbols:
            kept = market.image("quote", symbol)
            told = quotes.get(symbol)
            if kept and told is None:
                problems.append(f"quote:{symbol} is not known over HTTP")
            elif kept:
                for field in ("bid", "bid_size", "ask", "ask_size"):
                    if kept.get(field) != (None if told[field] is None else Decimal(told[field])):
                        problems.append(f"quote:{symbol} {field} is {kept.get(field)}, over HTTP {told[field]}")
            for kind in ("bars.1s", "bars.1m"):
                if market.image(kind, symbol) or market.ring(kind, symbol)[0]:
                    answer = await server.http(f"/v1/bars/{symbol}?interval={kind[5:]}&limit=601")
                    moments.add(answer["position"])
                    problems += bars_differ(client, kind, symbol, answer["bars"])
        # Bars close by the clock: everything was read of one moment, or is read again.
        if moments == {market.position} and not market.in_flush:
            return problems
        await settle(client, max(moments))
    return problems + [f"HTTP and the client never met at a position: {moments}, {client.market.position}"]


def same_bar(one: dict, other: dict, closed: bool = True) -> bool:
    """Closed bars keep their vwap when a scale grows, so that who was told later has it more exactly."""
    vwaps = [bar["vwap"] for bar in (one, other) if bar and bar.get("vwap") is not None]
    if closed and len(vwaps) == 2 and abs(vwaps[0] - vwaps[1]) <= Decimal("0.00005"):
        one = one | {"vwap": other["vwap"]}
    return one == other


def bars_differ(client: Client, kind: str, symbol: str, bars: list[dict]):
    closed, missed, _ = client.market.ring(kind, symbol)
    had = {it["start"]: it for it in closed}
    first = min(had, default=None)
    absent = 0
    for bar in bars:
        fields = ("open", "high", "low", "close", "volume", "trades", "vwap")
        told = {field: None if bar[field] is None else Decimal(bar[field]) for field in fields}
        told["start"] = seconds(bar["start"])
        if bar["closed"]:
            kept = had.get(told["start"])
            if kept is None:
                absent += first is not None and told["start"] > first
                continue
            kept = {field: it for field, it in kept.items() if field != "number"}
        else:
            kept = client.market.image(kind, symbol)
            # A client that has the ring only by the snapshot of another moment is told the bar as well.
        if not same_bar(kept, told, bar["closed"]):
            yield f"{kind}:{symbol} is {kept}, over HTTP {told}"
    if absent > sum(after - before for before, after in missed):
        yield f"{kind}:{symbol}: {absent} bars of HTTP were not had, and {missed} missed"


# Part 1: random histories of what is published


SECTORS = {"AA": "s", "AB": "s", "BA": "t", "BB": "t", "C/D": "s", "E&F": "u", "late:G": "s", "late.H": "t"}


def random_topics(rng: random.Random, symbols) -> list[str]:
    topics = []
    for _ in range(rng.randint(1, 4)):
        kind = rng.choice(KINDS)
        who = rng.choice([*symbols, "@s", "@t", "*", "*"])
        topics.append(rng.choice([f"{kind}:{who}"] * 9 + ["status"]))
    return list(dict.fromkeys(topics))


class Trouble:
    """Loses the connection at random places, as a hook of the client."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.on = True
        self.places: dict[str, int] = {}
        self.after: int | None = None

    def __call__(self, client: Client, message) -> None:
        if not self.on:
            return
        if isinstance(message, dict) and message["type"] == "welcome":
            # At this place the requests are on their way and none is answered.
            self.after = None
            if self.rng.random() < 0.15:
                self.lose(client, "welcome")
            elif self.rng.random() < 0.3:
                self.after = self.rng.randint(1, 6)
        elif client.market.in_flush and self.rng.random() < 0.2:
            if self.rng.random() < 0.6:
                self.lose(client, "flush")
            else:
                # A flush is given up by this; or by what takes it back.
                topic = random_topics(self.rng, SECTORS)[0]
                client.wanted[topic] = None
                client._subscribe([topic], None)
        elif self.after is not None:
            self.after -= 1
            if self.after <= 0:
                self.after = None
                self.lose(client, "answer" if isinstance(message, dict) else "update")

    def lose(self, client: Client, place: str) -> None:
        self.places[place] = self.places.get(place, 0) + 1
        client.cut()


async def churn(client: Client, trouble: Trouble, rng: random.Random, stop: asyncio.Event) -> None:
    """Subscribes, unsubscribes and breaks things at random."""
    while not stop.is_set():
        await asyncio.sleep(rng.uniform(0.02, 0.25))
        choice = rng.random()
        if choice < 0.45:
            topics = random_topics(rng, SECTORS)
            client.wanted.update(dict.fromkeys(topics))
            client._subscribe(topics, None)
        elif choice < 0.7 and client.wanted:
            topics = rng.sample(list(client.wanted), min(len(client.wanted), rng.randint(1, 3)))
            for topic in topics:
                del client.wanted[topic]
            client.send("unsubscribe", topics=topics)
        elif choice < 0.78:
            client.send("fault", fault="drop", **rng.choice(({}, {"code": 1001}, {"code": 1012}, {"code": 4408})))
        elif choice < 0.83:
            trouble.lose(client, "anywhere")
        elif choice < 0.86:
            client.send("fault", fault="garble", what=rng.choice(("message", "frame")))
        elif choice < 0.9:
            client.send("fault", fault="slow", bytes_per_second=rng.choice((3000, 50000)), for_ms=rng.randint(50, 600))
        elif choice < 0.93:
            client.send("fault", fault="delay", by_ms=rng.randint(20, 300), for_ms=rng.randint(50, 600))
        elif choice < 0.95:
            client.max_hz = rng.choice((None, 2, 20))


async def published(seed: int, duration: float) -> None:
    rng = random.Random(seed)
    truth = Truth(rng, dict(SECTORS))
    late = [symbol for symbol in SECTORS if symbol.startswith("late")]
    bulk = [f"BULK{number:04}" for number in range(1200)]
    async with serving("--feed", "none") as server:
        events = [truth.instrument(symbol) for symbol in SECTORS if symbol not in late]
        # So many instruments make a snapshot of sets a flush of several updates.
        events += [{"type": "instrument", "symbol": symbol, "name": "n" * 60, "sector": "bulk"} for symbol in bulk]
        events += [{"type": "quote", "symbol": symbol, "bid": "1.00", "bid_size": "1", "ask": None} for symbol in bulk]
        for symbol in late:
            del truth.symbols[symbol]
        await server.publish(events)

        async with running(server) as steady, Json.running(server) as text:
            everything = [f"{kind}:*" for kind in KINDS] + ["status"]
            await steady.subscribe(*everything)
            await text.subscribe(*everything)
            count = 4
            clients, troubles, tasks = [], [], []
            problems: dict[str, list] = {"published": [], "http": [], "checksums": [], "protocol": [], "settled": []}
            sums = {"checksums": 0, "missed": 0, "trades": 0}
            position = 0
            try:
                for number in range(count):
                    trouble = Trouble(random.Random(seed * 100 + number))
                    client = Client(server.url, delay=0.03, times=number % 2 == 0, hook=trouble)
                    client.task = asyncio.create_task(client.run())
                    clients.append(client)
                    troubles.append(trouble)
                    tasks.append(client.task)
                end = time.monotonic() + duration
                turn = 0
                while time.monotonic() < end:
                    turn += 1
                    stop = asyncio.Event()
                    for trouble in troubles:
                        trouble.on = True
                    churns = [
                        asyncio.create_task(churn(client, trouble, trouble.rng, stop))
                        for client, trouble in zip(clients, troubles)
                    ]
                    until = time.monotonic() + rng.uniform(1, 2)
                    while time.monotonic() < until:
                        position = await server.publish(truth.batch())
                        if rng.random() < 0.1:
                            # Into another sector, also while those who watch it are away.
                            moved = rng.choice(list(truth.symbols))
                            truth.symbols[moved] = rng.choice(sorted(set(SECTORS.values())))
                            position = await server.publish([truth.instrument(moved)])
                        await asyncio.sleep(rng.choice((0, 0.002, 0.02, 0.1)))
                    if turn == 2 or turn % 3 == 0:
                        # More trades than a ring holds, so that those who are away miss some.
                        for client in clients[: count // 2]:
                            client.send("fault", fault="mute", for_ms=400)
                        symbol = rng.choice(list(truth.symbols))
                        position = await server.publish([truth.trade(symbol) for _ in range(3000)])
                    if turn == 1:
                        for symbol in late:
                            truth.symbols[symbol] = SECTORS[symbol]
                        position = await server.publish([truth.instrument(symbol) for symbol in late])
                    stop.set()
                    await asyncio.gather(*churns)
                    for client, trouble in zip(clients, troubles):
                        trouble.on = False
                        client.send("fault", fault="none")
                    for client in clients:
                        client.max_hz = None
                        problems["settled"] += await settle(client, position)
                        if client.wanted:
                            # A rate cap of the time before would let bars come later than HTTP tells them.
                            await client.subscribe(next(iter(client.wanted)))
                            await client.send("subscribe", topics=[next(iter(client.wanted))], max_hz=None)
                            problems["settled"] += await settle(client, position)
                        problems["published"] += truth.problems(client)
                        problems["checksums"] += await compare_checksums(client, truth.symbols)
                    if turn % 2 == 0:
                        client = rng.choice(clients)
                        problems["http"] += await compare_http(server, client, truth.symbols)
                    if any(problems.values()):
                        break
                for client in clients:
                    problems["protocol"] += client.market.faults
                    sums["checksums"] += client.compared
                    for (_, kind), ring in client.market.rings.items():
                        if kind == "trades":
                            sums["missed"] += sum(after - before for before, after in ring.missed)
                            sums["trades"] += len(ring.entries)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            places: dict[str, int] = {}
            for trouble in troubles:
                for place, times in trouble.places.items():
                    places[place] = places.get(place, 0) + times
            lost = sum(client.market.lost_flushes for client in clients)
            connections = sum(client.connections for client in clients)
            print(
                f"   seed {seed}: {turn} turns, {connections} connections, cut {places}, {lost} within a flush; "
                f"of the last rings {sums['trades']} trades had, {sums['missed']} missed; "
                f"{sums['checksums']} checksums",
                flush=True,
            )
            name = f"published, seed {seed}"
            check(f"{name}: clients settle", problems["settled"])
            check(f"{name}: images and trades are what was published", problems["published"])
            check(f"{name}: checksums", problems["checksums"])
            check(f"{name}: quotes and bars are what HTTP tells", problems["http"])
            check(f"{name}: nothing the protocol rules out", problems["protocol"])
            check(
                f"{name}: connections were lost at every place, and trades missed",
                unless(len(places) >= 3 and places.get("welcome", 0) > 0, f"only {places}")
                + unless(lost > 0, "never within a flush")
                + unless(sums["checksums"] > 10, "hardly any checksum"),
            )
            found = await settle(steady, position) + list(truth.problems(steady))
            found += await compare_http(server, steady, truth.symbols) + steady.market.faults
            check(f"{name}: a client that stayed", found)
            check(f"{name}: JSON and MessagePack tell the same", await same(steady, text, truth.symbols))


async def gaps() -> None:
    """Trades that a ring no longer holds are missed by exactly so many; the others come once."""
    problems = []
    rng = random.Random(5)
    truth = Truth(rng, {"A": "s", "B": "s", "C": "t"})
    async with serving("--feed", "none") as server, running(server, delay=0.4) as client:
        await server.publish([truth.instrument("A"), truth.instrument("B"), truth.instrument("C"), truth.trade("A")])
        await client.subscribe("trades:A", "trades:C", "trades:@s", "bars.1s:*")
        for count in (0, 5, 700, 5000, 1500):
            await client.ready.wait()
            problems += await settle(client, await server.publish([truth.trade("A") for _ in range(7)]))
            client.cut()
            await asyncio.sleep(0.05)
            # C has its first trades while the client is away, and more than a ring holds: it missed those from 0 on.
            events = [truth.trade(symbol) for symbol in ("ABC" if count > 1000 else "AB") for _ in range(count)]
            position = await server.publish(events) if events else 0
            problems += await settle(client, position)
            problems += truth.problems(client)
        for symbol, first in (("A", None), ("C", 0)):
            _, missed, _ = client.market.ring("trades", symbol)
            problems += unless(bool(missed), f"nothing of {symbol} was missed")
            problems += unless(first is None or missed[:1] == [(0, missed[0][1])], f"missed of {symbol}: {missed}")
        problems += client.market.faults
    check("gaps are exact", problems)


# JSON


class Json:
    """The JSON form, as far as it takes to compare: one connection, no coming back."""

    def __init__(self):
        self.images: dict[str, dict] = {}
        self.rings: dict[str, dict[int, dict]] = {}
        self.instruments: dict[str, dict] = {}
        self.feed = None
        self.position = 0
        self.resets = 0
        self.more = False
        self.faults: list[str] = []
        self._answer: asyncio.Future | None = None

    @classmethod
    @asynccontextmanager
    async def running(cls, server: Server):
        self = cls()
        async with connect(server.url, subprotocols=["tickcast.v1.json"], max_size=None) as self.socket:
            task = asyncio.create_task(self._read())
            try:
                yield self
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def subscribe(self, *topics: str) -> dict:
        return await self._ask({"op": "subscribe", "topics": topics, "times": True})

    async def checksum(self, topics: list[str]) -> dict:
        return await self._ask({"op": "checksum", "topics": topics})

    async def _ask(self, request: dict) -> dict:
        self._answer = asyncio.get_running_loop().create_future()
        await self.socket.send(json.dumps({**request, "id": "s"}))
        return await asyncio.wait_for(self._answer, 20)

    async def _read(self) -> None:
        async for frame in self.socket:
            message = json.loads(frame)
            if message["type"] == "update":
                self.position, self.more = message["position"], message.get("more", False)
                for entry in message["updates"]:
                    self._entry(entry)
            elif message["type"] == "welcome":
                self.position = message["position"]
            elif message.get("id") == "s":
                self._answer.set_result(message)

    def _entry(self, entry: dict) -> None:
        if "instrument" in entry:
            self.instruments[entry["instrument"]["symbol"]] = entry["instrument"]
        elif "reset" in entry:
            self.resets += 1
            self.images.clear()
            self.rings.clear()
            self.instruments.clear()
        elif entry["topic"].startswith("trades:") or "closed" in entry:
            ring = self.rings.setdefault(entry["topic"], {})
            last = max(ring, default=-1)
            for told in entry["closed"] if "closed" in entry else entry["trades"]:
                number = told["number"]
                if number <= last:
                    self.faults.append(f"JSON: {entry['topic']} {number} comes after {last}")
                last = number
                ring[number] = exact(told)
        elif "feed" in entry:
            self.feed = entry["feed"]
        elif "bar" in entry or entry["topic"].startswith("day:"):
            fields = entry.get("bar") or {field: it for field, it in entry.items() if field != "topic"}
            image = self.images.setdefault(entry["topic"], {})
            if "start" in fields:
                self.images[entry["topic"]] = image = {
                    field: it for field, it in image.items() if field == "previous_close"
                }
            image.update(exact(fields))
        else:
            image = self.images.setdefault(entry["topic"], {})
            image.update(exact({field: it for field, it in entry.items() if field != "topic"}))


def exact(fields: dict) -> dict:
    """The values of the JSON form as those that client.py shows."""
    result = {}
    for field, it in fields.items():
        if it is None or field in ("side", "conditions", "counts", "breaks", "state", "number", "trades"):
            result[field] = it
        elif field == "start":
            result[field] = seconds(it)
        elif field == "ts_event":
            result[field] = (datetime.fromisoformat(it) - EPOCH) // timedelta(microseconds=1)
        else:
            result[field] = Decimal(it)
    return result


async def same(client: Client, text: Json, symbols, rings: bool = True) -> list[str]:
    """Compares both forms at one position. Bars close by the clock, so the tape goes on: each is asked for what brings it
    to its end."""
    end = time.monotonic() + 10
    while client.market.position != text.position or client.market.in_flush or text.more:
        if time.monotonic() > end:
            return [f"MessagePack is at {client.market.position}, JSON at {text.position}"]
        topics = image_topics(client, symbols)[:1]
        await asyncio.gather(client.checksum(topics), text.checksum(topics))
    market, problems = client.market, list(text.faults)
    images = 0
    for symbol in symbols:
        for kind in KINDS:
            if kind != "trades":
                mine = market.image(kind, symbol)
                theirs = dict(text.images.get(f"{kind}:{symbol}", {}))
                if kind == "quote":
                    mine.pop("ts_event", None)
                    theirs.pop("ts_event", None)
                images += bool(mine)
                if mine != theirs:
                    problems.append(f"{kind}:{symbol} is {mine}, in JSON {theirs}")
            if kind in RINGS and rings:
                mine = {it["number"]: it for it in market.ring(kind, symbol)[0]}
                theirs = {number: {**PLAIN, **it} if kind == "trades" else it
                          for number, it in text.rings.get(f"{kind}:{symbol}", {}).items()}
                both = mine.keys() & theirs.keys()
                if bool(mine) != bool(theirs) or (mine and max(mine) != max(theirs)) or (mine and not both):
                    problems.append(f"{kind}:{symbol}: numbers differ")
                for number in both:
                    if not (same_bar if kind != "trades" else dict.__eq__)(mine[number], theirs[number]):
                        problems.append(f"{kind}:{symbol} {number} is {mine[number]}, in JSON {theirs[number]}")
                        break
        number = market.number(symbol)
        if number is not None:
            mine, theirs = market.instruments[number], text.instruments.get(symbol, {})
            for field in ("name", "sector", "currency", "price_scale", "size_scale"):
                if mine[field] != theirs.get(field):
                    problems.append(f"{field} of {symbol} is {mine[field]}, in JSON {theirs.get(field)}")
            tick = Decimal(mine["tick_size"]).scaleb(-mine["price_scale"])
            if tick != Decimal(theirs["tick_size"]):
                problems.append(f"tick size of {symbol} is {tick}, in JSON {theirs['tick_size']}")
    feed = market.images.get((None, "feed"))
    kinds, states = ("simulator", "replay", "publisher"), ("live", "stale", "paused", "ended")
    if feed and text.feed != {"kind": kinds[feed["kind"]], "state": states[feed["state"]], "speed": feed["speed"]}:
        problems.append(f"feed is {feed}, in JSON {text.feed}")
    return problems + unless(images > 0, "nothing was compared")


# Part 2: what is played, with seeks


async def replayed(seed: int, duration: float) -> None:
    rng = random.Random(seed)
    symbols = ("BTCUSDT", "ETHUSDT")
    everything = [f"{kind}:*" for kind in KINDS] + ["status"]
    problems: dict[str, list] = {"fresh": [], "checksums": [], "json": [], "rings": [], "protocol": [], "http": []}
    async with (
        serving("--feed", "feeds/binance-spot-60s.tape", "--speed", "4") as server,
        running(server) as steady,
        running(server) as shaken,
        running(server) as unaware,
        Json.running(server) as text,
    ):
        trouble = Trouble(random.Random(seed + 1))
        shaken.hook = trouble
        # Who does not look at `begins` is told by `resumed: false`.
        welcome = unaware.market.welcome
        unaware.market.welcome = lambda message: welcome({**message, "begins": None})
        answers = {False: 0, True: 0}

        def count(client: Client, message) -> None:
            if isinstance(message, dict) and "resumed" in message:
                answers[message["resumed"]] += 1

        unaware.hook = count
        await unaware.subscribe(*everything)
        await steady.subscribe(*everything)
        await text.subscribe(*everything)
        shaken.wanted.update(dict.fromkeys(rng.sample(everything, 3) + ["trades:BTCUSDT", "quote:ETHUSDT", "day:*"]))
        shaken.cut()
        told = await server.http("/v1/replay")
        begins = datetime.fromisoformat(told["start"][:26] + "+00:00")
        end, turns, seeks = time.monotonic() + duration, 0, 0
        while time.monotonic() < end:
            turns += 1
            trouble.on = True
            await server.replay("speed", speed=rng.choice((1, 5, 30)))
            with suppress(urllib.error.HTTPError):
                await server.replay("play")
            await asyncio.sleep(rng.uniform(0.1, 0.6))
            for _ in range(rng.randint(0, 3)):
                to = begins + timedelta(seconds=rng.uniform(0.5, 58))
                if rng.random() < 0.5:
                    unaware.delay = 0.3
                    unaware.cut()
                await server.replay("seek", to=to.isoformat().replace("+00:00", "Z"))
                seeks += 1
                for client in (shaken, unaware):
                    if rng.random() < 0.4:
                        client.cut()
                await asyncio.sleep(rng.uniform(0, 0.4))
            await server.replay("pause")
            trouble.on = False
            position = (await server.http("/v1/quotes"))["position"]
            async with running(server) as fresh:
                await fresh.subscribe(*everything)
                for client in (steady, shaken, unaware, fresh):
                    problems["checksums"] += await settle(client, position)
                    problems["checksums"] += await compare_checksums(client, symbols)
                    for number, kind in client.market.rings:
                        entries, missed, _ = client.market.ring(kind, client.market.instruments[number]["symbol"])
                        problems["rings"] += contiguous(kind, str(number), entries, missed)
                    problems["protocol"] += client.market.faults
                problems["fresh"] += differ(steady, fresh, symbols, everything)
                problems["fresh"] += differ(unaware, fresh, symbols, everything)
                problems["fresh"] += differ(shaken, fresh, symbols, shaken.wanted)
                problems["http"] += await compare_http(server, fresh, symbols)
                for symbol in symbols:
                    trades = (await server.http(f"/v1/trades/{symbol}?limit=1024"))["trades"]
                    had = {it["number"]: it for it in steady.market.ring("trades", symbol)[0]}
                    for trade in trades:
                        mine = had.get(trade["number"])
                        if mine and mine != {**PLAIN, **exact(trade)}:
                            problems["http"].append(f"trade {mine} is over HTTP {trade}")
            problems["json"] += await same(steady, text, symbols)
            if any(problems.values()):
                break
        resets = steady.market.drops
        print(f"   {turns} turns, {seeks} seeks, {resets} resets seen, {shaken.connections} connections, "
              f"resumed {answers}", flush=True)
    check("replay: a client through resets is as a fresh one", problems["fresh"])
    check("replay: checksums", problems["checksums"])
    check("replay: rings are numbered without a break", problems["rings"])
    check("replay: quotes, trades and bars are what HTTP tells", problems["http"])
    check("replay: JSON and MessagePack tell the same", problems["json"])
    check("replay: nothing the protocol rules out", problems["protocol"])
    enough = resets > 1 and text.resets > 1 and answers[False]
    check("replay: there were resets", unless(enough, f"{resets}, {text.resets}, {answers}"))


async def wound() -> None:
    """Wound back while it was away: a client drops all it keeps, told by `begins` or by `resumed: false` alone."""
    problems = []
    everything = [f"{kind}:*" for kind in KINDS] + ["status"]
    symbols = ("BTCUSDT", "ETHUSDT")
    async with (
        serving("--feed", "feeds/binance-spot-60s.tape") as server,
        running(server, delay=0.5) as aware,
        running(server, delay=0.5) as unaware,
        running(server, delay=0.5) as split,
    ):
        for client in (unaware, split):
            welcome = client.market.welcome
            client.market.welcome = lambda message, welcome=welcome: welcome({**message, "begins": None})
        # It asks in several requests, and drops once: what the first of them brings is not to be lost to the second.
        requests = split.market.requests
        split.market.requests = lambda wanted: (
            ([name], since) for names, since in list(requests(wanted)) for name in names
        )
        await server.replay("pause")
        for to in ("2024-08-08T23:55:00Z", "2024-08-08T23:54:30Z", "2024-08-08T23:54:50Z"):
            drops = [client.market.drops for client in (aware, unaware, split)]
            for client in (aware, unaware, split):
                if client.wanted:
                    client.cut()
            await asyncio.sleep(0.1)
            await server.replay("seek", to=to)
            position = (await server.http("/v1/quotes"))["position"]
            async with running(server) as fresh:
                await fresh.subscribe(*everything)
                problems += await settle(fresh, position)
                for index, client in enumerate((aware, unaware, split)):
                    await asyncio.wait_for(client.ready.wait(), 10)
                    if not client.wanted:
                        await client.subscribe(*everything)
                    else:
                        problems += await settle(client, position)
                        count = client.market.drops - drops[index]
                        problems += unless(count == 1, f"dropped {count} times")
                    problems += await settle(client, position)
                    problems += differ(client, fresh, symbols, everything)
                    problems += await compare_checksums(client, symbols) + client.market.faults
    check("wound back while away", problems)


def differ(old: Client, fresh: Client, symbols, topics):
    """How an old client differs from a fresh one, in images and in what rings have of the same numbers."""
    for symbol in symbols:
        for kind in KINDS:
            if f"{kind}:*" not in topics and f"{kind}:{symbol}" not in topics:
                continue
            if kind != "trades" and old.market.image(kind, symbol) != fresh.market.image(kind, symbol):
                yield f"{kind}:{symbol} is {old.market.image(kind, symbol)}, fresh {fresh.market.image(kind, symbol)}"
            if kind in RINGS:
                mine, _, next_mine = old.market.ring(kind, symbol)
                theirs, _, next_theirs = fresh.market.ring(kind, symbol)
                if (next_mine or 0) != (next_theirs or 0):
                    yield f"{kind}:{symbol} is at {next_mine}, fresh at {next_theirs}"
                had = {it["number"]: it for it in mine}
                for entry in theirs:
                    if entry["number"] in had and had[entry["number"]] != entry:
                        yield f"{kind}:{symbol} {had[entry['number']]} is fresh {entry}"
                        break
    for key in ((None, "status"), (None, "feed")):
        if "status" in topics and old.market.images.get(key) != fresh.market.images.get(key):
            yield f"{key[1]} is {old.market.images.get(key)}, fresh {fresh.market.images.get(key)}"


async def large_reset(seed: int) -> None:
    """A reset whose flush is large, with requests and losses within it."""
    problems = []
    rng = random.Random(seed)
    async with serving("--symbols", "3000", "--rate", "3000", "--speed", "1") as server, running(server) as client:
        told = await server.http("/v1/replay")
        begins = datetime.fromisoformat(told["start"][:26].rstrip("Z") + "+00:00")
        places = {"lost": 0, "asked": 0}

        def hook(client: Client, message) -> None:
            if isinstance(message, list) and client.market.in_flush and rng.random() < 0.25:
                if rng.random() < 0.3:
                    places["lost"] += 1
                    client.cut()
                else:
                    places["asked"] += 1
                    topic = rng.choice(("trades:*", "bars.1s:*"))
                    if topic in client.wanted:
                        del client.wanted[topic]
                        client.send("unsubscribe", topics=[topic])
                    else:
                        client.wanted[topic] = None
                        client._subscribe([topic], None)

        client.hook = hook
        await client.subscribe("quote:*", "day:*", "trades:*", "status")
        for turn in range(6):
            await asyncio.sleep(0.2)
            to = begins + timedelta(seconds=rng.uniform(0.2, 3))
            await server.replay("seek", to=to.isoformat().replace("+00:00", "Z"))
        await asyncio.sleep(0.3)
        client.hook = None
        await server.replay("pause")
        for _ in range(20):
            # Pausing takes effect a moment later, and bars close by the clock.
            answer = await server.http("/v1/quotes")
            problems += await settle(client, answer["position"])
            if answer["position"] == client.market.position:
                break
            await asyncio.sleep(0.05)
        quotes = {it["symbol"]: it for it in answer["quotes"]}
        problems += unless(answer["position"] == client.market.position, "the tape went on")
        kept = {}
        for number, it in client.market.instruments.items():
            image = client.market.images.get((number, "quote"))
            if image:
                kept[it["symbol"]] = client.market.image("quote", it["symbol"])
        problems += unless(kept.keys() == quotes.keys(), f"{len(kept)} quotes kept, {len(quotes)} over HTTP")
        for symbol, image in kept.items():
            for field in ("bid", "bid_size", "ask", "ask_size"):
                told = quotes.get(symbol, {}).get(field)
                if image.get(field) != (None if told is None else Decimal(told)):
                    problems.append(f"quote:{symbol} {field} is {image.get(field)}, over HTTP {told}")
        problems += await compare_checksums(client, rng.sample(sorted(kept), min(600, len(kept))))
        for number, kind in client.market.rings:
            ring = client.market.rings[number, kind]
            problems += contiguous(kind, str(number), ring.entries, ring.missed)
        problems += client.market.faults
        problems += unless(client.market.drops > 1 and places["asked"] > 0, f"{client.market.drops} drops, {places}")
        print(f"   {client.market.drops} drops, {client.connections} connections, {places}", flush=True)
    check("a large flush after a reset, given up and lost", problems)


# Single rules


async def scales() -> None:
    """Scales grow: what is kept is multiplied, and the vwap of the latest bars comes anew."""
    problems = []
    async with serving("--feed", "none") as server, running(server) as client, running(server) as away:
        for it in (client, away):
            await it.subscribe(*(f"{kind}:*" for kind in KINDS))
        now = int(time.time() * 1_000_000)
        for digits in range(3, 9):
            unit = Decimal(1).scaleb(-digits)
            quote = {"bid": str(7 + unit), "bid_size": 1, "ask": "8", "ask_size": str(unit)}
            events = [
                {"type": "trade", "symbol": "A", "price": str(7 + unit), "size": 3, "ts_event": now},
                {"type": "trade", "symbol": "A", "price": "7.01", "size": str(unit), "ts_event": now},
                {"type": "quote", "symbol": "A", **quote},
            ]
            away.delay = 0.2
            away.cut()
            position = await server.publish(events)
            await asyncio.sleep(0.3)
            for it in (client, away):
                problems += await settle(it, position)
                problems += await compare_checksums(it, ["A"])
        position = await server.publish([{"type": "trade", "symbol": "A", "price": "9", "size": 1}])
        await asyncio.sleep(1.2)
        position = await server.publish([{"type": "trade", "symbol": "A", "price": "9.123456789", "size": 1}])
        for it in (client, away):
            problems += await settle(it, position)
            problems += await compare_http(server, it, ["A"]) + await compare_checksums(it, ["A"]) + it.market.faults
        trades = [it["price"] for it in client.market.ring("trades", "A")[0]]
        expected = [price for digits in range(3, 9) for price in (7 + Decimal(1).scaleb(-digits), Decimal("7.01"))]
        problems += unless(trades == expected + [Decimal(9), Decimal("9.123456789")], f"trades are {trades}")
    check("scales grow", problems)


async def overlaps() -> None:
    """What several topics cover comes once, and stays as long as one covers it; a symbol moves from sector to sector."""
    problems = []
    truth = Truth(random.Random(4), {"A": "s", "B": "t"})
    entries = []

    def hook(client, message):
        if isinstance(message, list):
            entries.append(message[2:])

    async with serving("--feed", "none") as server, running(server, hook=hook) as client:
        async def step(events, count: int, what: str):
            position = await server.publish(events) if events else 0
            problems.extend(await settle(client, position))
            problems.extend(truth.problems(client))
            told = sum(bool(entry) for entry in entries)
            problems.extend(unless(told == count, f"{what}: {told} updates that tell something, not {count}"))
            entries.clear()

        await server.publish([truth.instrument("A"), truth.instrument("B"), truth.quote("A"), truth.quote("B")])
        await client.subscribe("quote:@s")
        await step([], 1, "a sector")
        await client.subscribe("quote:A")
        await step([], 0, "a symbol of it")
        await client.subscribe("quote:*")
        await step([], 1, "everything")
        problems += unless(client.market.image("quote", "B") != {}, "B is not told")
        await step([truth.quote("A")], 1, "a quote")
        await client.unsubscribe("quote:@s")
        await client.unsubscribe("quote:*")
        await step([truth.quote("A"), truth.quote("B")], 1, "a quote of those left")
        problems += unless(client.market.image("quote", "B") == {}, "B is kept")
        await client.unsubscribe("quote:A")
        await step([truth.quote("A")], 0, "nothing left")
        await client.subscribe("quote:@s")
        await step([], 1, "the sector anew")

        # A moves to the other sector: those who have subscribed its old one are told so, and no more of it.
        truth.symbols["A"] = "t"
        await server.publish([truth.instrument("A")])
        position = await server.publish([truth.quote("A"), truth.quote("B")])
        problems += await settle(client, position) + list(truth.problems(client))
        problems += unless(client.market.image("quote", "A") == {}, "A is kept")
        await client.subscribe("quote:@t")
        problems += await settle(client, position) + list(truth.problems(client))
        await client.unsubscribe("quote:@s")
        position = await server.publish([truth.quote("A"), truth.quote("B")])
        problems += await settle(client, position) + list(truth.problems(client)) + client.market.faults
        problems += await compare_checksums(client, ["A", "B"])
        # A `*` is that of a set only where it is all there is; a line feed is in no symbol.
        awaited, refused = ("quote:@nobody", "quote:NEW", "quote:NEW*"), ("nonsense:A", "quote:BAD%0A")
        answer = await client.subscribe(*awaited, *refused, "status")
        topics = {it["topic"]: it for it in answer["topics"]}
        problems += unless(
            all(topics[topic].get("pending") for topic in awaited)
            and [topics[topic].get("error", {}).get("code") for topic in refused] == ["unknown_topic"] * 2,
            f"answered {answer}",
        )
    check("topics overlap", problems)


async def restarted() -> None:
    """Another epoch: all that was kept is dropped, and nothing of it is taken for what is told anew."""
    problems = []
    first, second = Truth(random.Random(6), {"A": "s", "B": "t"}), Truth(random.Random(7), {"B": "t", "C": "s"})
    topics = [f"{kind}:{who}" for kind in KINDS for who in ("*", "@s", "B")]
    async with serving("--feed", "none") as server:
        port = int(server.address.rpartition(":")[2])
        async with running(server) as client:
            await client.subscribe(*topics)
            for truth in (first, second):
                events = [truth.instrument(symbol) for symbol in truth.symbols]
                events += [event for _ in range(40) for event in truth.batch()]
                if truth is second:
                    await asyncio.to_thread(server.stop)
                    server = await asyncio.to_thread(lambda: Server("--feed", "none", port=port))
                try:
                    position = await server.publish(events)
                    problems += await settle(client, position)
                    while client.connections < 2 and truth is second:
                        await asyncio.sleep(0.05)
                    problems += await settle(client, position)
                    problems += truth.problems(client)
                    problems += await compare_checksums(client, truth.symbols)
                    since = {"epoch": client.market.epoch + 1, "position": 0}
                    answer = await client.send("subscribe", topics=["status"], since=since)
                    problems += unless(answer["resumed"] is False, f"a wrong epoch is resumed: {answer}")
                finally:
                    if truth is second:
                        await asyncio.to_thread(server.stop)
            problems += client.market.faults
            problems += unless(client.market.number("A") is None, "A is still known")
    check("another epoch", problems)


async def liveness() -> None:
    """Heartbeats come in time; who hears nothing says so, and comes back."""
    problems = []
    async with serving("--feed", "none") as server:
        gaps: list[float] = []
        last = [0.0]

        def hook(client, message):
            now = time.monotonic()
            if isinstance(message, list):
                gaps.append(now - last[0])
            last[0] = now

        async with running(server, hook=hook) as idle, running(server) as mute:
            await idle.subscribe("status", "quote:*")
            await mute.subscribe("status", "trades:*")
            heartbeat = idle.heartbeat
            await mute.request("fault", fault="mute")
            began = time.monotonic()
            await server.publish([{"type": "trade", "symbol": "A", "price": "1", "size": 1}])
            await asyncio.sleep(2 * heartbeat + 0.5)
            problems += unless(mute.stale, "a muted client is not stale after two heartbeats")
            problems += unless(not idle.stale, "an idle client is stale")
            while mute.connections < 2 and time.monotonic() < began + 5 * heartbeat:
                await asyncio.sleep(0.1)
            took = time.monotonic() - began
            problems += unless(3 * heartbeat - 1 < took < 3 * heartbeat + 3, f"it came back after {took:.1f} s")
            problems += await settle(mute, 0)
            problems += unless(len(mute.market.ring("trades", "A")[0]) == 1, "the trade was lost")
            # A busy machine may run this process late.
            problems += unless(max(gaps) < heartbeat + 1, f"an update came after {max(gaps):.2f} s")
            problems += unless(len(gaps) >= 3, f"{len(gaps)} updates only")
    check("liveness", problems)


async def garbled() -> None:
    problems = []
    truth = Truth(random.Random(9), {"A": "s"})
    async with serving("--feed", "none") as server, running(server) as client:
        await client.subscribe("quote:*", "trades:*", "status:*")
        for what in ("message", "frame", "message"):
            before = client.connections
            await client.ready.wait()
            client.send("fault", fault="garble", what=what)
            for _ in range(50):
                position = await server.publish([truth.trade("A"), truth.quote("A")])
                await asyncio.sleep(0.01)
            problems += await settle(client, position)
            problems += truth.problems(client)
            problems += unless(client.connections > before, f"a garbled {what} was not noticed")
        problems += client.market.faults
    check("what cannot be read ends a connection, and nothing is lost", problems)


async def codes() -> None:
    """Close codes, of the `drop` fault and of the server's own, and what a client does on them."""
    problems = []
    async with serving("--feed", "none") as server:
        for code in (1001, 1011, 1012, 1013, 4408, 4429, 3000, None):
            async with running(server) as client:
                await client.subscribe("status")
                client.send("fault", fault="drop", **({} if code is None else {"code": code}))
                with suppress(TimeoutError):
                    async with asyncio.timeout(10):
                        while client.connections < 2:
                            await asyncio.sleep(0.01)
                problems += unless(
                    client.connections == 2 and client.closed == [code or 1006], f"{code}: closed {client.closed}"
                )
                problems += await settle(client, 0)
        for code in (1002, 1007, 1009, 4410):
            async with running(server) as client:
                client.send("fault", fault="drop", code=code)
                with suppress(Refused, TimeoutError):
                    await asyncio.wait_for(asyncio.shield(client.task), 10)
                problems += unless(client.task.done() and client.closed == [code], f"{code}: closed {client.closed}")
        check("close codes: the client comes back or does not", problems)

        problems = []
        for what, code in (("large", 1009), ("text", 1007), ("flood", 4429), ("wrong", None), ("close", 1000)):
            async with connect(server.url, subprotocols=["tickcast.v1.msgpack"]) as socket:
                await socket.recv()
                try:
                    if what == "large":
                        await socket.send(b"\0" * 70_000)
                    elif what == "text":
                        await socket.send(b"\xff\xfe", text=True)
                    elif what == "flood":
                        for _ in range(400):
                            await socket.send(msgpack.packb({"op": "ping"}))
                    elif what == "wrong":
                        for bad in (b"\xc1", msgpack.packb([1]), msgpack.packb({"op": "subscribe"}), b""):
                            await socket.send(bad)
                        await socket.send('{"op":"ping","id":"text on a binary form"}')
                    else:
                        await socket.close(1000)
                    types = []
                    while True:
                        message = msgpack.unpackb(await asyncio.wait_for(socket.recv(), 10))
                        types.append(message.get("code", message["type"]))
                        if message["type"] == "pong" and what == "wrong":
                            problems += unless(types == ["bad_request"] * 4 + ["pong"], f"{what}: {types}")
                            break
                except websockets.ConnectionClosed as closed:
                    got = closed.rcvd and closed.rcvd.code
                    problems += unless(got == code, f"{what}: closed with {got}, not {code}")
                else:
                    problems += unless(code is None, f"{what}: not closed")
        for offered, expected in (
            (None, "msgpack"), (["x", "tickcast.v1.json", "tickcast.v1.msgpack"], "json"), (["x"], 400),
        ):
            try:
                async with connect(server.url, subprotocols=offered) as socket:
                    frame = await socket.recv()
                    got = "json" if isinstance(frame, str) else "msgpack"
            except websockets.InvalidStatus as error:
                got = error.response.status_code
            problems += unless(got == expected, f"{offered} is answered with {got}")
        check("close codes and refusals of the server's own", problems)

        async with running(server) as client:
            await client.subscribe("status")
            seen = []
            client.hook = lambda client, message: seen.append(message)
            server.process.send_signal(signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(10):
                    while not client.closed:
                        await asyncio.sleep(0.01)
            said = [it for it in seen if isinstance(it, dict) and it["type"] == "goodbye"]
            problems = unless(bool(said) and seen[-1] is said[0], f"goodbye was not the last: {seen[-2:]}")
            if said:
                problems += unless(said[0]["code"] == client.closed[0] in (1001, 1012), f"{said[0]}, {client.closed}")
                problems += unless(said[0]["retry_after_ms"] >= 0 and said[0]["jitter_ms"] >= 0, str(said[0]))
            check("goodbye", problems)


async def rates() -> None:
    """`max_hz` caps flushes, `times` adds the time of quotes, `stats` counts."""
    problems = []
    flushes: list[float] = []

    def hook(client, message):
        # The first flush comes in several updates, of which the last one alone says where it ends.
        if isinstance(message, list) and len(message) > 2 and message[0] is not None:
            flushes.append(time.monotonic())

    async with serving("--symbols", "20", "--rate", "2000") as server:
        async with running(server, max_hz=5, times=True, hook=hook) as client:
            await client.subscribe("quote:*", "trades:*")
            # All that was there is delivered for no change: it comes before what is counted.
            async with asyncio.timeout(20):
                while not flushes:
                    await asyncio.sleep(0.01)
            flushes.clear()
            first = await client.request("stats")
            began = time.monotonic()
            await asyncio.sleep(3)
            took = time.monotonic() - began
            count = len(flushes)
            problems += unless(5 <= count <= 5 * took + 4, f"{count} flushes in {took:.1f} s at 5 a second")
            images = [it for (_, kind), it in client.market.images.items() if kind == "quote"]
            problems += unless(bool(images) and all("ts_event" in it for it in images), "quotes without ts_event")
            problems += unless(
                all(abs(it["ts_event"] / 1e6 - time.time()) < 86400 for it in images), "ts_event is of another time"
            )
            count = len(client.stats)
            problems += unless(first["type"] == "stats" and 2 <= count <= took + 2, f"{count} stats in {took:.1f} s")
            last = client.stats[-1]
            problems += unless(last["events"] > last["delivered"] > 0, f"nothing was merged: {last}")
            await client.subscribe("stats")
            end = time.monotonic() + 10
            while not (stats := client.market.images.get((None, "stats"), {})) and time.monotonic() < end:
                await asyncio.sleep(0.05)
            problems += unless(stats.get("sessions", {}).get("open") == 1, f"stats: {list(stats)}")
            pong = await client.request("ping")
            problems += unless(abs(pong["time"] / 1e6 - time.time()) < 2, f"pong {pong}")
            problems += client.market.faults
    check("rates, times, stats", problems)


# Part 4: slow readers


async def slow_reader(rate: int, duration: float) -> None:
    """Who takes 10 ms for a message is shown nothing older than 1 s and twice that, seen from the youngest.

    A busy machine wakes a reader late; what it took in truth, over the last 3 s, is what counts.
    """
    async with serving("--rate", str(rate)) as server:
        ages: list[tuple[float, float, float]] = []  # age, when, the longest that the reader took of late
        took: deque[tuple[float, float]] = deque()
        lags = messages = 0
        options = {"subprotocols": ["tickcast.v1.msgpack"], "close_timeout": 1}
        async with connect(server.url + "?topics=quote:*", **options) as socket:
            clock = 0
            began = time.monotonic()
            async for frame in socket:
                message = msgpack.unpackb(frame, strict_map_key=False)
                messages += 1
                if isinstance(message, list):
                    clock += message[1]
                    if len(message) > 2:
                        longest = max((it for _, it in took), default=0.01)
                        ages.append((time.time() - clock / 1e6, time.monotonic() - began, longest))
                elif message["type"] == "welcome":
                    clock = message["time"]
                elif message["type"] == "lag":
                    lags += 1
                before = time.monotonic()
                await asyncio.sleep(0.01)
                after = time.monotonic()
                took.append((after, after - before))
                while took[0][0] < after - 3:
                    took.popleft()
                if after - began > duration:
                    break
        youngest = min(ages)[0]
        oldest, when, longest = max(ages)
        late = [
            f"{age - youngest:.3f} s old after {at:.1f} s, where a message took up to {most * 1000:.0f} ms"
            for age, at, most in ages
            if age - youngest > 1 + 2 * most
        ]
        print(
            f"   {rate} a second: {messages} messages in {duration:.0f} s, the oldest price {oldest - youngest:.3f} s "
            f"behind the youngest, at {when:.1f} s, "
            f"where it took up to {longest * 1000:.0f} ms; {lags} lag messages",
            flush=True,
        )
        check(
            f"a slow reader of {rate} ticks a second sees nothing old",
            late + unless(len(ages) > 10 * duration, f"{len(ages)} updates only"),
        )


# The words that this client has from the text, beside those that the server's tables write


async def schema() -> None:
    told = json.loads((ROOT / "tests/vectors/schema.json").read_text())
    fields = told["fields"]
    units = {field["name"]: field["unit"] for group in fields.values() for field in group}
    check("schema: prices are those of the server", unless(
        {name for name, unit in units.items() if unit in ("price", "hundredth")} == PRICES - {"price"}, f"{sorted(PRICES)}"))
    check("schema: sizes are those of the server", unless(
        {name for name, unit in units.items() if unit == "size"} == SIZES - {"size"}, f"{sorted(SIZES)}"))
    check("schema: words have the server's numbers", [
        f"{ours} is not {name} of the server: {told[name]}"
        for name, ours in (("trading_states", list(STATES)), ("sides", list(SIDES)), ("counts", COUNTS))
        if told[name] != ours or list(told[name]) != list(ours)
    ])
    stay_away = {it["code"] for it in told["close_codes"] if it["then"] == "stay away"}
    # 1003 and 1008 are not sent, the text says.
    check("schema: the client stays away after the server's codes", unless(stay_away - {1003, 1008} == FINAL, f"{FINAL}, not {stay_away}"))
    check("schema: every tag and bit is read as the server means it", tags_differ(told))


def tags_differ(told: dict):
    """One entry of each kind, made by the server's tables, as this client reads it."""
    tags, topics = told["tags"], {topic["kind"]: topic for topic in told["topics"]}
    yield from unless(set(topics) == {*KINDS, "watchers"}, f"kinds: {sorted(topics)}")

    def market() -> Market:
        market = Market()
        market.welcome({"epoch": 1, "position": 0, "time": 0})
        definition = {"symbol": "X", "name": "", "sector": "", "currency": "", "price_scale": 2, "size_scale": 0, "tick_size": 1,
                      "anchor": 0, "previous_close": None}
        market.update([1, 0, 0, tags["definition"], definition])
        return market

    for kind, topic in topics.items():
        if image := topic["image"]:
            known = [field for field in told["fields"][image["fields"]] if field["bit"] & image["all"]]
            yield from unless(tuple(field["name"] for field in known) == FIELDS[kind], f"fields of {kind}: {FIELDS[kind]}")
            for field in known:
                it = market()
                head = [image["tag"] + field["bit"]] if kind == "quote" else [image["tag"], field["bit"]]
                it.update([1, 0, 0, *head, 7])
                yield from unless(it.images.get((0, kind)) == {field["name"]: 7}, f"{kind} {field}: {it.images}")
        if ring := topic["ring"]:
            width = 8 if ring["entry"] == "bar" else 4
            yield from unless(ring["least"] == width, f"{kind} has {ring['least']} values an entry")
            for tag, number in ((ring["tag"], []), (ring["numbered"], [5])):
                it = market()
                it.update([1, 0, 0, tag, *number, 1, *range(1, width - 1), 0, 1] if width == 4 else [1, 0, 0, tag, *number, 1, *range(1, 9)])
                entries = it.rings[0, kind].entries
                yield from unless([entry["number"] for entry in entries] == [5 if number else 0], f"{kind} by tag {tag}: {entries}")
        for name in ("joined", "left"):
            it = market()
            it.update([None, 0, 0, tags[name], topic["number"]])
            yield from unless((0, kind) in getattr(it, name), f"{name} {kind}: {it.joined} {it.left}")
    it = market()
    it.update([1, 0, 0, tags["quote_with_time"] + 1, 7, 9])
    yield from unless(it.images.get((0, "quote")) == {"bid": 7, "ts_event": 9}, f"a quote with its time: {it.images}")
    it = market()
    it.update([1, 0, None, tags["status"], 1, 0, None, tags["feed"], 0, 1, 2.5, None, tags["stats"], {"time": 1}])
    expected = {(None, "status"): {"state": told["trading_states"][1], "ts_event": 0}, (None, "stats"): {"time": 1}}
    yield from unless(all(it.images.get(key) == image for key, image in expected.items()), f"states: {it.images}")
    yield from unless(it.images[None, "feed"] == {"kind": 0, "state": 1, "speed": 2.5}, f"feed: {it.images}")
    it.update([1, 0, None, tags["messages"], "desk", 4, 2, 5, "Ann", None, '"a"', 6, None, "news", "[1]"])
    it.update([1, 0, None, tags["messages"], "desk", 8, 1, 0, None, None, "null", None, tags["states"], "desk", 1, 2, "Ann", "1", "Bob", "2"])
    it.update([1, 0, None, tags["messages"], "desk", 8, 1, 0, None, None, "null", None, tags["states"], "desk", 0, 1, "Ann", None])
    heard = it.messages["desk"]
    numbers = [entry["number"] for entry in heard["entries"]]
    yield from unless(
        (heard["missed"], numbers, heard["entries"][1]["data"]) == (2, [4, 5, 8], [1]) and it.states == {"desk": {"Bob": 2}},
        f"channels: {it.messages} {it.states}",
    )
    it.update([1, 0, None, tags["reset"]])
    yield from unless(not it.images and it.drops == 1, "a reset drops what is kept")
    yield from unless(it.messages and it.states, "and leaves channels as they are")


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    seed = arguments.seed

    async def part(name: str, *parts) -> None:
        async def one(name, coroutine):
            if arguments.only not in name:
                coroutine.close()
                return
            try:
                await asyncio.wait_for(coroutine, 240)
            except Exception:
                check(name, [traceback.format_exc(limit=-4)])

        await asyncio.gather(*(one(f"{name}: {it.__name__}", it) for it in parts))

    # Those that mostly wait go beside each other; slow readers measure time, so they have the machine to themselves.
    await part("schema", schema())
    await part("rules", restarted(), wound(), gaps(), scales(), overlaps(), garbled(), codes(), rates())
    await part("published", liveness(), published(seed, 10), published(seed + 1, 10))
    await part("replay", replayed(seed, 12), large_reset(seed))
    duration = 180 if arguments.long else 20
    await part("slow", slow_reader(5000, duration), slow_reader(50000, duration))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    # Whoever ends this, as a time limit does, ends the servers with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(asyncio.run(main()))
