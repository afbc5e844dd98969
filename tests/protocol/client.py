"""A client of the wire protocol `tickcast.v1`, MessagePack form, written from docs/protocol.md alone.

It exists to show that the text suffices: nobody who wrote it had seen how the server or its other clients do it.
`Market` is what a client keeps, and knows nothing of sockets; `Client` connects, asks, and comes back.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from decimal import Context, Decimal
from urllib.parse import unquote

import msgpack
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

QUOTE = ("bid", "bid_size", "ask", "ask_size")
BAR = ("start", "open", "high", "low", "close", "volume", "trades", "vwap")
DAY = BAR + ("previous_close",)
FIELDS = {"quote": QUOTE, "bars.1s": BAR, "bars.1m": BAR, "day": DAY, "watchers": ("watchers",)}
# By their numbers.
INSTRUMENT_KINDS = ("quote", "trades", "bars.1s", "bars.1m", "day", "status", "watchers")
PRICES = {"price", "bid", "ask", "open", "high", "low", "close", "previous_close", "vwap"}
SIZES = {"size", "bid_size", "ask_size", "volume"}
STATES = ("pre-open", "open", "halted", "closed")
SIDES = ("none", "buy", "sell")
# What a trade counts for. The second and the third stand for two others each.
COUNTS = {"volume": 1, "high_low": 10, "last": 20, "bars_high_low": 2, "bars_last": 4, "day_high_low": 8, "day_last": 16, "break": 32,
          "correction": 64}

# What `position` and `time` count is known only from `welcome` on; a message that cannot be read is this.
UNREADABLE = 1007
# After these the same would happen again: the client needs a fix, or its room is over.
FINAL = {1002, 1007, 1009, 4410}


class Unreadable(Exception):
    """A message that is no MessagePack, or not of the form that the protocol gives it."""


class Lost(Exception):
    """The connection ended before a request was answered."""


class Refused(Exception):
    """The server will not have this client, however often it comes back."""


class Symbol(str):
    """What a topic names, not mistaken for a set when it is called `*` or begins with `@`."""


def topic_of(kind: str, symbol: str) -> str:
    """The topic, with what would be read as something else escaped."""
    if symbol == "*":
        return f"{kind}:%2A"
    symbol = re.sub(r"%(?=[0-9a-fA-F]{2})", "%25", symbol).replace(",", "%2C")
    return f"{kind}:{re.sub('^@', '%40', symbol)}"


class Topic:
    """One subscription, over the connections that it lives through."""

    def __init__(self, name: str):
        self.name = name
        self.kind, _, who = name.partition(":")
        is_sector = who.startswith("@") and not who[1:].isdigit()
        # A symbol as it is; `*` where it is all of them.
        self.who = who if who == "*" or is_sector else Symbol(unquote(who))
        self.granted = False  # in this connection
        self.live = False  # in this connection a flush has ended since it was granted
        self.whole = False  # its snapshot was had whole, in this connection or one before
        self.reached = 0  # the position up to which it was told by the connections before this one

    def sector(self) -> str | None:
        return self.who[1:] if self.who.startswith("@") and not isinstance(self.who, Symbol) else None


class Ring:
    """The entries had of one ring, and the ranges of numbers that were lost. `expected` is the next number."""

    def __init__(self, expected: int | None):
        self.expected = expected
        self.entries: list[dict] = []
        self.missed: list[tuple[int, int]] = []


class Market:
    """Everything a client keeps. Prices and sizes are kept in units, not relative to an anchor."""

    def __init__(self):
        self.epoch = None
        self.position = 0
        self.time = 0
        self.welcomed: dict = {}
        self.topics: dict[str, Topic] = {}
        self.instruments: dict[int, dict] = {}
        self.images: dict[tuple[int | None, str], dict] = {}
        self.rings: dict[tuple[int, str], Ring] = {}
        # By channel; no part of the market, so a reset leaves them.
        self.messages: dict[str, dict] = {}
        self.states: dict[str, dict] = {}
        self.in_flush = False
        self.dropped = False  # in this connection: by a reset, or by an answer with `resumed: false`
        self.drops = 0
        self.updates = 0
        self.lost_flushes = 0
        self.faults: list[str] = []  # what the protocol says never happens
        self.told: dict[str, int] = {}  # topic to the instrument number that `subscribed` gave it
        self._cover: dict[tuple[int | None, str], list[Topic]] = {}
        # In the flush that is under way: what has come to a subscribed sector, or gone from it, and whose sector is another one.
        self.joined: set[tuple[int, str]] = set()
        self.left: set[tuple[int, str]] = set()
        self.moved: set[int] = set()
        # What only a sector can have brought whose first flush this is, and which it has left since it was subscribed.
        self.brief: set[tuple[int, str]] = set()

    # Connections

    def welcome(self, message: dict) -> None:
        """Begins a connection. What is kept is dropped where it is of another epoch, or from before a reset."""
        self.welcomed = message
        self.in_flush = False
        self.dropped = False
        begins = message.get("begins")
        reached = [topic.reached for topic in self.topics.values() if topic.whole]
        if self.epoch is not None and self.epoch != message["epoch"]:
            self.messages.clear()
            self.states.clear()
            self.drop()
        elif begins is not None and any(position < begins for position in reached):
            self.drop()
        elif begins is not None and not reached and self.position < begins:
            self.drop()
        self.epoch = message["epoch"]
        self.position = message["position"]
        self.time = message["time"]

    def lost(self, wanted) -> None:
        """Ends a connection. Each topic remembers how far it was told, since the next one has its own position."""
        if self.in_flush:
            self.lost_flushes += 1
        for topic in self.topics.values():
            if topic.live:
                topic.reached = self.position
            topic.granted = topic.live = False
        self._stay()
        # Of a topic that was never had whole nobody would say what has left its sector meanwhile.
        for key in list(self.images):
            if not any(topic.whole for topic in self._covers(*key)):
                del self.images[key]
        self._prune(wanted)

    def _prune(self, wanted) -> None:
        """Takes leave of topics that are wanted no more, of which no server had to be told."""
        for name in [name for name in self.topics if name not in wanted]:
            del self.topics[name]
        self._changed()
        self._forget()

    def requests(self, wanted):
        """What to subscribe with in a new connection, as (topics, since): those with `since` go first."""
        self._prune(wanted)
        groups: dict[int, list[str]] = {}
        rest = []
        for name in wanted:
            topic = self.topics.get(name)
            if topic is None or not topic.whole:
                rest.append(name)
            else:
                groups.setdefault(topic.reached, []).append(name)
        for reached, names in groups.items():
            yield names, {"epoch": self.epoch, "position": reached}
        if rest:
            yield rest, None

    def subscribed(self, message: dict, since: dict | None) -> dict[str, dict]:
        """Takes an answer. Returns the topics that were refused, with the error of each."""
        if since is not None and not message["resumed"] and not self.dropped:
            self.drop()
        if since is None and "resumed" in message:
            self.faults.append("resumed without since")
        if message["epoch"] != self.epoch:
            self.faults.append("subscribed in another epoch")
        refused = {}
        for answer in message["topics"]:
            name = answer["topic"]
            if "error" in answer:
                refused[name] = answer["error"]
                continue
            topic = self.topics.setdefault(name, Topic(name))
            if "instrument" in answer:
                self.told[name] = answer["instrument"]
            if topic.granted:
                continue
            topic.granted = True
            topic.live = False
            if since is None:
                topic.whole = False
        self._changed()
        return refused

    def unsubscribed(self, message: dict) -> None:
        for answer in message["topics"]:
            self.topics.pop(answer["topic"], None)
        self._changed()
        self._forget()

    def drop(self) -> None:
        """Forgets the market, definitions and numbering included. The subscriptions stay, and begin anew."""
        self.instruments.clear()
        self.images.clear()
        self.rings.clear()
        self.told.clear()
        for topic in self.topics.values():
            topic.live = topic.whole = False
        self._stay()
        self.dropped = True
        self.drops += 1
        self._changed()

    # Coverage

    def _changed(self) -> None:
        self._cover.clear()

    def _covers(self, number: int | None, kind: str) -> list[Topic]:
        """The topics that bring this image or ring, granted or to be subscribed anew."""
        key = (number, kind)
        found = self._cover.get(key)
        if found is None:
            if number is None:
                name = "stats" if kind == "stats" else "status"
                found = [topic for topic in self.topics.values() if topic.name == name]
            else:
                instrument = self.instruments.get(number, {})
                symbol, sector = instrument.get("symbol"), instrument.get("sector")
                found = [
                    topic
                    for topic in self.topics.values()
                    if topic.kind == kind
                    and ((topic.who == "*" and not isinstance(topic.who, Symbol)) or (topic.sector() or "") == sector != "" or topic.who == symbol != "")
                ]
            self._cover[key] = found
        return found

    def _forget(self) -> None:
        """Drops what no subscription brings any more: it would grow old unseen."""
        for kept in (self.images, self.rings):
            for key in [key for key in kept if not self._covers(*key)]:
                del kept[key]
        for number in list(self.instruments):
            if not any(self._covers(number, kind) for kind in INSTRUMENT_KINDS):
                del self.instruments[number]
        self._changed()

    # Updates

    def update(self, values: list) -> None:
        self.updates += 1
        rest = iter(values)
        try:
            positions, micros = next(rest), next(rest)
            self.time += micros
            self.in_flush = True
            for number in rest:
                self._entry(number, next(rest), rest)
        except (StopIteration, TypeError, ValueError) as error:
            raise Unreadable(f"update: {error!r}") from error
        if positions is None:
            return
        self.position += positions
        self.in_flush = False
        for number, kind in self.brief - self.left:
            self.faults.append(f"{kind} of instrument {number} is told, and not subscribed")
        for key in self.left:
            self.rings.pop(key, None)
        self._stay()
        for topic in self.topics.values():
            if topic.granted and not topic.live:
                topic.live = topic.whole = True

    def _stay(self) -> None:
        """Nothing moves between sectors any more."""
        for moves in (self.joined, self.left, self.moved, self.brief):
            moves.clear()

    def _entry(self, number, tag, rest) -> None:
        if tag == 63:
            self._definition(number, next(rest))
            return
        if tag == 59:
            self.drop()
            return
        anchor = 0
        if number is not None:
            instrument = self.instruments.get(number)
            if instrument is None:
                self.faults.append(f"tag {tag} of instrument {number} without a definition")
            else:
                anchor = instrument["anchor"]
        if 1 <= tag <= 31 and tag != 16:
            image = self._image(number, "quote")
            for bit, field in enumerate(QUOTE):
                if tag & 1 << bit:
                    image[field] = value(field, next(rest), anchor)
            if tag & 16:
                image["ts_event"] = self.time + next(rest)
        elif tag in (32, 33):
            self._trades(number, next(rest) if tag == 33 else None, next(rest), rest, anchor)
        elif tag in (40, 41, 42):
            kind = ("bars.1s", "bars.1m", "day")[tag - 40]
            image, mask = self._image(number, kind), next(rest)
            if mask & 1:
                # The previous close is no part of the bar that begins.
                for field in BAR:
                    image.pop(field, None)
            for bit, field in enumerate(DAY):
                if mask & 1 << bit:
                    image[field] = value(field, next(rest), anchor)
        elif tag == 43:
            image = self._image(number, "watchers")
            if next(rest) & 1:
                image["watchers"] = next(rest)
        elif tag == 48:
            self._messages(next(rest), next(rest), next(rest), rest)
        elif tag == 49:
            channel, whole, count = next(rest), next(rest), next(rest)
            states = self.states.setdefault(channel, {})
            if whole:
                states.clear()
            for _ in range(count):
                key, data = next(rest), next(rest)
                if data is None:
                    states.pop(key, None)
                else:
                    states[key] = json.loads(data)
        elif tag in (44, 45, 46, 47):
            kind = "bars.1s" if tag in (44, 46) else "bars.1m"
            first = next(rest) if tag >= 46 else None
            bars = [{field: value(field, next(rest), anchor) for field in BAR} for _ in range(next(rest))]
            self._ring(number, kind, first, bars)
        elif tag == 60:
            image = self._image(number, "status")
            image["state"], image["ts_event"] = STATES[next(rest)], self.time + next(rest)
        elif tag == 61:
            image = self._image(None, "feed")
            image["kind"], image["state"], image["speed"] = next(rest), next(rest), next(rest)
        elif tag in (57, 58):
            key = number, INSTRUMENT_KINDS[next(rest)]
            if tag == 58:
                self.joined.add(key)
            else:
                self.images.pop(key, None)
                self.left.add(key)
        elif tag == 62:
            self._image(None, "stats")
            self.images[None, "stats"] = next(rest)
        else:
            raise Unreadable(f"unknown tag {tag}")

    def _messages(self, channel: str, number: int, count: int, rest) -> None:
        """Those of a channel, each once; what came before the subscription is not missed."""
        topic = self.topics.get(topic_of("messages", channel))
        begin = 0 if topic and topic.whole else number
        known = self.messages.setdefault(channel, {"next": begin, "missed": 0, "entries": []})
        known["missed"] += max(0, number - known["next"])
        for each in range(number, number + count):
            ts_event, sender, event, data = self.time + next(rest), next(rest), next(rest), json.loads(next(rest))
            if each >= known["next"]:
                known["entries"].append({"number": each, "from": sender, "event": event, "data": data, "ts_event": ts_event})
        known["next"] = max(known["next"], number + count)

    def _definition(self, number: int, new: dict) -> None:
        for field in ("tick_size", "anchor", "previous_close"):
            new[field] = None if new[field] is None else integer(new[field])
        old = self.instruments.get(number)
        self.instruments[number] = new
        if old is None:
            self._changed()
            told = self.told.get
            for kind in ("quote", "trades", "bars.1s", "bars.1m", "day", "status"):
                if told(topic_of(kind, new["symbol"]), number) != number:
                    self.faults.append(f"{new['symbol']} is {number}, and was answered with another number")
        if old is None:
            return
        if old["sector"] != new["sector"]:
            self.moved.add(number)
            self._changed()
        if old["symbol"] != new["symbol"]:
            self.faults.append(f"instrument {number} was {old['symbol']} and is {new['symbol']}")
        prices = new["price_scale"] - old["price_scale"]
        sizes = new["size_scale"] - old["size_scale"]
        if prices < 0 or sizes < 0:
            self.faults.append(f"a scale of {new['symbol']} shrank")
        if prices > 0 or sizes > 0:
            for kind in FIELDS:
                grow(self.images.get((number, kind), {}), prices, sizes)
            for kind in ("trades", "bars.1s", "bars.1m"):
                ring = self.rings.get((number, kind))
                for entry in ring.entries if ring else ():
                    grow(entry, prices, sizes)

    def _image(self, number: int | None, kind: str) -> dict:
        self._stray(number, kind)
        return self.images.setdefault((number, kind), {})

    def _stray(self, number: int | None, kind: str) -> None:
        # What came before it left its sector is told behind the definition that names another.
        if number in self.moved or any(topic.granted for topic in self._covers(number, kind)):
            return
        if any(it.kind == kind and it.sector() and it.granted and not it.live for it in self.topics.values()):
            self.brief.add((number, kind))
        else:
            self.faults.append(f"{kind} of instrument {number} is told, and not subscribed")

    def _trades(self, number: int, first: int | None, count: int, rest, anchor: int) -> None:
        price, moment = None, self.time
        trades = []
        for _ in range(count):
            told = next(rest)
            moment += next(rest)
            if told is None:
                price = None
            else:
                price = integer(told) + (anchor if price is None else price)
            flags, size = next(rest), integer(next(rest))
            trade = {
                "price": price,
                "size": size,
                "side": SIDES[flags & 3],
                "conditions": next(rest) if flags & 4 else "",
                "counts": names(next(rest) if flags & 8 else 31),
                "ts_event": moment,
            }
            if "break" in trade["counts"]:
                trade["back"] = next(rest)
            trades.append(trade)
        self._ring(number, "trades", first, trades)

    def _ring(self, number: int, kind: str, first: int | None, entries: list[dict]) -> None:
        self._stray(number, kind)
        ring = self.rings.get((number, kind))
        if ring is None:
            # A ring that was empty when its snapshot ended, or whose instrument appeared later, begins at 0.
            known = any(topic.whole and topic.granted for topic in self._covers(number, kind))
            known &= (number, kind) not in self.joined | self.left
            ring = self.rings[number, kind] = Ring(0 if known else None)
        if first is None:
            # An empty snapshot is followed by no update of its own, so this may be the first one of its ring, too.
            if ring.expected is None:
                ring.expected = 0
            first = ring.expected
        elif ring.expected is None or (number, kind) in self.left:
            # Of what came while it was of no sector here nothing was lost.
            ring.expected = max(first, ring.expected or 0)
            self.left.discard((number, kind))
        if first > ring.expected:
            ring.missed.append((ring.expected, first))
            ring.expected = first
        for entry in entries[ring.expected - first :]:
            entry["number"] = ring.expected
            back = entry.pop("back", 0)
            if back:
                entry["breaks"] = ring.expected - back
            ring.entries.append(entry)
            ring.expected += 1

    # What it shows

    def number(self, symbol: str) -> int | None:
        return next((number for number, it in self.instruments.items() if it["symbol"] == symbol), None)

    def image(self, kind: str, symbol: str) -> dict:
        """An image in exact decimals, by symbol; empty where there is none."""
        number = self.number(symbol)
        units = self.images.get((number, kind)) if number is not None else None
        return decimals(units, self.instruments[number]) if units else {}

    def ring(self, kind: str, symbol: str) -> tuple[list[dict], list[tuple[int, int]], int | None]:
        """The entries in exact decimals, the ranges missed, and the number expected next."""
        number = self.number(symbol)
        ring = self.rings.get((number, kind))
        if ring is None:
            return [], [], None
        instrument = self.instruments[number]
        return [decimals(entry, instrument) for entry in ring.entries], ring.missed, ring.expected

    def checksum(self, name: str) -> int:
        kind, _, symbol = name.partition(":")
        symbol = unquote(symbol)
        image = self.images.get((self.number(symbol), kind), {})
        fields = ("" if image.get(field) is None else str(image[field]) for field in FIELDS[kind])
        return fnv1a(f"{topic_of(kind, symbol)}={','.join(fields)}")


def value(field: str, told, anchor: int):
    if told is None:
        return told
    if field not in PRICES:
        return integer(told)
    return integer(told) + (100 * anchor if field == "vwap" else anchor)


def integer(told: int | str) -> int:
    """What is beyond 2^53 comes as its digits."""
    return int(told) if isinstance(told, str) else told


# As many digits as any volume has.
EXACT = Context(prec=60)


def names(counts: int) -> list[str]:
    told, result = 0, []
    for name, bits in COUNTS.items():
        if counts & bits == bits and told & bits != bits:
            told |= bits
            result.append(name)
    return result


def grow(units: dict, prices: int, sizes: int) -> None:
    """Multiplies what is kept in units, as the instrument's scales have grown by so many digits."""
    for field, kept in units.items():
        digits = prices if field in PRICES else sizes if field in SIZES else 0
        if kept is not None and digits > 0:
            units[field] = kept * 10**digits


def decimals(units: dict, instrument: dict) -> dict:
    result = {}
    for field, kept in units.items():
        if kept is not None and field in PRICES:
            kept = EXACT.scaleb(Decimal(kept), -instrument["price_scale"] - (2 if field == "vwap" else 0))
        elif kept is not None and field in SIZES:
            kept = EXACT.scaleb(Decimal(kept), -instrument["size_scale"])
        result[field] = kept
    return result


def fnv1a(text: str) -> int:
    result = 2166136261
    for byte in text.encode():
        result = ((result ^ byte) * 16777619) & 0xFFFFFFFF
    return result


class Client:
    """Keeps a market up to date over as many connections as it takes."""

    def __init__(self, url: str, *, max_hz=None, times=False, delay=0.5, hook=None):
        self.url = url
        self.max_hz = max_hz
        self.times = times
        self.delay = delay  # before it comes back; doubled each time that it gets no `welcome`
        self.hook = hook  # called with each message after it was taken; for tests
        self.market = Market()
        self.wanted: dict[str, None] = {}
        self.refused: dict[str, dict] = {}
        self.heard = 0.0
        self.lag_ms = None
        self.lags: list[int] = []
        self.goodbye: dict | None = None
        self.stats: list[dict] = []
        self.closed: list[int] = []  # the code of each connection's end; 1006 without one
        self.connections = 0
        self.wrong: list[str] = []  # checksums that differed
        self.compared = 0
        self.ready = asyncio.Event()  # set while a connection is welcomed
        self._socket = None
        self._cut = False
        self._last_id = 0
        self._waiting: dict[int, tuple[asyncio.Future, dict]] = {}

    # Asking

    async def subscribe(self, *topics: str) -> dict | None:
        """The topics are wanted from now on; the answer is None where the connection is away or is lost."""
        self.wanted.update(dict.fromkeys(topics))
        try:
            return await self._subscribe(list(topics), None)
        except Lost:
            return None

    async def unsubscribe(self, *topics: str) -> dict | None:
        for topic in topics:
            self.wanted.pop(topic, None)
        try:
            return await self.request("unsubscribe", topics=list(topics))
        except Lost:
            return None

    async def request(self, op: str, **fields) -> dict:
        """Sends a request, and returns its answer, be it an error."""
        return await self.send(op, **fields)

    def send(self, op: str, **fields) -> asyncio.Future:
        """Sends a request at once, in the order of the calls; the future is its answer."""
        self._last_id += 1
        request = {"op": op, "id": self._last_id, **fields}
        future = asyncio.get_running_loop().create_future()
        # Whoever does not wait for an answer is not to be warned that it was lost.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._socket is None:
            future.set_exception(Lost())
            return future
        self._waiting[self._last_id] = (future, request)
        task = asyncio.ensure_future(self._write(self._socket, msgpack.packb(request)))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future

    async def _write(self, socket, data: bytes) -> None:
        await socket.send(data)

    def _subscribe(self, topics: list[str], since: dict | None) -> asyncio.Future:
        fields: dict = {"topics": topics}
        if since is not None:
            fields["since"] = since
        if self.max_hz is not None:
            fields["max_hz"] = self.max_hz
        if self.times:
            fields["times"] = True
        return self.send("subscribe", **fields)

    async def checksum(self, topics: list[str]) -> dict:
        """Asks for checksums; those that differ from what is kept are in `wrong`. Compared on receipt."""
        return await self.request("checksum", topics=topics)

    # Liveness

    @property
    def heartbeat(self) -> float:
        return self.market.welcomed.get("heartbeat_ms", 10_000) / 1000

    @property
    def stale(self) -> bool:
        """Whether a user is to be told that nothing is heard any more."""
        return self._socket is None or time.monotonic() - self.heard > 2 * self.heartbeat

    def settled(self, position: int) -> bool:
        """Whether all that is wanted is had whole, up to a position of the server's."""
        market = self.market
        return (
            self._socket is not None
            and not market.in_flush
            and market.position >= position
            and not self._waiting
            and market.topics.keys() == self.wanted.keys()
            and all(topic.live for topic in market.topics.values())
        )

    def cut(self) -> None:
        """Loses the connection at this very place: what came behind the message at hand is not read."""
        self._cut = True
        if self._socket is not None:
            self._socket.transport.abort()

    # Connections

    async def run(self) -> None:
        """Connects, and comes back until it is cancelled or told not to. Ends with `Refused` in the latter case."""
        failures = 0
        while True:
            welcomed = self.connections
            self.goodbye = None
            code, wait = 1006, None
            try:
                code = await self._connection()
            except InvalidStatus as error:
                status = error.response.status_code
                if status != 503:
                    raise Refused(f"HTTP {status}") from error
                wait = float(error.response.headers.get("Retry-After", 1))
            except (OSError, TimeoutError, EOFError):
                pass
            finally:
                self._socket = None
                self.ready.clear()
                self.market.lost(self.wanted)
                for future, _ in self._waiting.values():
                    if not future.done():
                        future.set_exception(Lost())
                self._waiting.clear()
            self.closed.append(code)
            if code in FINAL:
                raise Refused(f"closed with {code}")
            failures = failures + 1 if self.connections == welcomed else 0
            if self.goodbye is not None:
                wait = (self.goodbye["retry_after_ms"] + random.random() * self.goodbye["jitter_ms"]) / 1000
            elif wait is None:
                wait = self.delay * 2 ** min(failures, 6) * (0.5 + random.random())
                if code in (1011, 1013, 4429):
                    wait += 1
            await asyncio.sleep(wait)

    async def _connection(self) -> int:
        """One connection, from its handshake to its end. Returns the code that the server closed it with."""
        self._cut = False
        options = {
            "subprotocols": [Subprotocol("tickcast.v1.msgpack")],
            "compression": None,
            "ping_interval": None,
            "max_size": None,
            "close_timeout": 1,
        }
        async with connect(self.url, **options) as socket:
            if socket.subprotocol != "tickcast.v1.msgpack":
                raise Refused(f"subprotocol {socket.subprotocol}")
            try:
                await self._read(socket)
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd is not None else 1006
            except Unreadable:
                # It may have been an update, so that nothing behind it can be relied on: resuming tells it again.
                await socket.close(UNREADABLE)
                return 1006
            except TimeoutError:
                socket.transport.abort()
                return 1006
        return 1006

    async def _read(self, socket) -> None:
        message = self._decode(await asyncio.wait_for(socket.recv(), 30))
        if not isinstance(message, dict) or message.get("type") != "welcome":
            raise Unreadable("the first message is no welcome")
        if message["protocol"] != "tickcast.v1":
            raise Refused(f"protocol {message['protocol']}")
        self.market.welcome(message)
        self.connections += 1
        self.heard = time.monotonic()
        self._socket = socket
        self.lag_ms = None
        most = message["limits"]["topics"]
        for topics, since in self.market.requests(self.wanted):
            for start in range(0, len(topics), most):
                self._subscribe(topics[start : start + most], since)
        self.ready.set()
        self._told(message)
        while not self._cut:
            async with asyncio.timeout(3 * self.heartbeat):
                frame = await socket.recv()
            self.heard = time.monotonic()
            message = self._decode(frame)
            if isinstance(message, list):
                self.market.update(message)
            elif isinstance(message, dict) and isinstance(message.get("type"), str):
                self._answer(message)
            else:
                raise Unreadable("neither an update nor a message with a type")
            self._told(message)

    def _told(self, message) -> None:
        if self.hook is not None:
            self.hook(self, message)

    @staticmethod
    def _decode(frame):
        if isinstance(frame, str):
            raise Unreadable("a text frame")
        try:
            return msgpack.unpackb(frame, strict_map_key=False)
        except Exception as error:  # msgpack names several, and none of them is the end of the client
            raise Unreadable(repr(error)) from error

    def _answer(self, message: dict) -> None:
        future, request = self._waiting.pop(message.get("id"), (None, {}))
        match message["type"]:
            case "subscribed":
                for name, error in self.market.subscribed(message, request.get("since")).items():
                    # A topic that is refused is not asked for again.
                    self.refused[name] = error
                    self.wanted.pop(name, None)
            case "unsubscribed":
                self.market.unsubscribed(message)
            case "lag":
                self.lag_ms = message["lag_ms"]
                self.lags.append(message["lag_ms"])
            case "goodbye":
                self.goodbye = message
            case "stats":
                self.stats.append(message)
            case "checksum":
                self._compare(message)
        if message["type"] == "stats" and future is None:
            return
        if future is not None and not future.done():
            future.set_result(message)

    def _compare(self, message: dict) -> None:
        if message["position"] != self.market.position:
            self.wrong.append(f"checksum at {message['position']}, read at {self.market.position}")
        for answer in message["topics"]:
            if "error" in answer:
                self.wrong.append(f"checksum of {answer['topic']}: {answer['error']}")
                continue
            self.compared += 1
            if self.market.checksum(answer["topic"]) != answer["checksum"]:
                self.wrong.append(f"checksum of {answer['topic']} differs at {message['position']}")
