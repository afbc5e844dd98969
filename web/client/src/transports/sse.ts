/**
 * Server-Sent Events: a stream that a proxy lets through which knows no WebSocket, or forbids it.
 *
 * Read by `fetch`, not by an `EventSource`, which tells no status, comes back by itself, and is not to be had in Node. Messages are
 * MessagePack in base64.
 *
 * Invariant: an event is passed on when its empty line has come, and none after `close`.
 */

import type { Clock } from "../clock.js";
import { decodeFrame } from "../decode.js";
import { after, type Place } from "../frame-head.js";
import { refusal } from "../probe.js";
import type { Connection, Transport, TransportEvents } from "../transport.js";
import { Endpoint } from "./endpoint.js";
import { OneWay, type Flow, type FlowEvents, type FlowQuery } from "./one-way.js";

/** Of a room, which the first session in it opens. */
const PARAMETERS = ["room", "key", "control", "seed", "start", "speed"];

export class SseTransport implements Transport {
  readonly name = "sse";
  readonly tells = true;

  constructor(
    private readonly fetch: typeof globalThis.fetch,
    private readonly clock: Required<Clock>,
  ) {}

  open(url: string, events: TransportEvents): Connection {
    const endpoint = new Endpoint(url, this.fetch, this.clock);
    const flow = (query: FlowQuery, events: FlowEvents) =>
      new Stream(endpoint, this.clock, query, events);
    return new OneWay(this.name, flow, endpoint, this.clock.soon, events);
  }
}

class Stream implements Flow {
  private readonly ending = new AbortController();
  private place: Place = { position: 0, time: 0 };
  /** The server has said that it leaves, and how the connection ends. */
  private goodbye: { code: number; reason: string } | null = null;

  constructor(
    endpoint: Endpoint,
    private readonly clock: Clock,
    { topics, since, fresh, maxHz, times }: FlowQuery,
    private readonly events: FlowEvents,
  ) {
    const url = endpoint.url("sse", PARAMETERS, {
      format: "msgpack",
      // Without a `since` all come whole.
      ...(topics.length > 0 ? { topics: topics.join(",") } : {}),
      ...(since === null ? {} : { since }),
      ...(fresh.length > 0 ? { new: fresh.join(",") } : {}),
      ...(maxHz === null ? {} : { max_hz: String(maxHz) }),
      ...(times ? { times: "true" } : {}),
    });
    void this.run(endpoint, url).then(
      () => this.ended("the stream has ended"),
      () => this.ended("nothing answers there, or the connection was lost"),
    );
  }

  close(): void {
    this.ending.abort();
  }

  private async run(endpoint: Endpoint, url: string): Promise<void> {
    const answer = await endpoint.get(url, this.ending.signal, { accept: "text/event-stream" });
    if (!answer.ok || !answer.body) return this.ended(await refusal(answer, this.clock));
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const lines = new Lines((data) => this.take(data));
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      lines.push(value);
    }
  }

  private ended(reason: string): void {
    if (this.ending.signal.aborted) return;
    this.ending.abort();
    const { code, reason: why } = this.goodbye ?? { code: 1006, reason };
    this.events.ended(code, why);
  }

  private take(data: string): void {
    if (this.ending.signal.aborted) return;
    // A server that is full says so in JSON, with the status 200.
    if (data.startsWith("{"))
      return this.ended(String((JSON.parse(data) as { message?: string }).message));
    const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
    const message = decodeFrame(bytes);
    switch (message.type) {
      case "update": {
        const { place } = this;
        this.place = after(bytes, place) ?? place;
        return this.events.update(bytes, place);
      }
      case "welcome":
        this.place = { position: message.position, time: message.time };
        return this.events.welcome(message);
      case "subscribed":
        return this.events.answered(message);
      case "goodbye":
        this.goodbye = { code: message.code, reason: message.reason };
        return this.events.message(bytes);
      default:
        return this.events.message(bytes);
    }
  }
}

/** Finds the data of events in the pieces of a stream. */
class Lines {
  private rest = "";
  private data: string[] = [];

  constructor(private readonly event: (data: string) => void) {}

  push(piece: string): void {
    const lines = (this.rest + piece).split(/\r\n|[\n\r]/);
    this.rest = lines.pop()!;
    for (const line of lines) {
      if (line.startsWith("data:")) this.data.push(line.slice(5).trimStart());
      else if (line === "" && this.data.length > 0) this.event(this.data.splice(0).join("\n"));
    }
  }
}
