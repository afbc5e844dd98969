import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { createHash } from "node:crypto";
import { afterEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import { TickcastClient, type ClientOptions } from "../src/client.js";
import { liveWorld, welcome, world } from "./fakes.js";

let servers: Server[] = [];
afterEach(() => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
  servers = [];
});

async function listening(server: Server): Promise<string> {
  servers.push(server);
  await once(server.listen(0, "127.0.0.1"), "listening");
  return `ws://127.0.0.1:${(server.address() as AddressInfo).port}/v1/ws`;
}

/** What the application hears until it knows why there is no connection. */
async function reasonOf(url: string, options: ClientOptions): Promise<string> {
  const client = new TickcastClient(url, options);
  try {
    return await new Promise<string>((resolve) => {
      client.on("error", ({ code, message }) => {
        expect(code).toBe("disconnected");
        expect(client.state).toMatchObject({ kind: "reconnecting", code: 1006 });
        resolve(message);
      });
      client.connect();
    });
  } finally {
    client.close();
  }
}

/** Refuses every handshake, and every other request, with a problem. */
const refusing = (status: number, problem: object | string) =>
  createServer((_, response) => {
    response.writeHead(status, { "content-type": "application/problem+json" });
    response.end(typeof problem === "string" ? problem : JSON.stringify(problem));
  });

/** A WebSocket that tells as little as a browser's does. */
class Mute {
  binaryType = "";
  onmessage = null;
  onerror = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  constructor() {
    setImmediate(() => this.onclose?.({ code: 1006, reason: "" }));
  }
  send(): void {}
  close(): void {}
}

test("a session that is cut says why by its state and an error", () => {
  const { clock, socket, said } = liveWorld();
  socket().drop(4429, "too many requests: 50 a second");
  expect(said("state", "error")).toEqual([
    [
      "state",
      {
        kind: "reconnecting",
        attempt: 1,
        retry_at: clock.now() + 2_500,
        code: 4429,
        reason: "too many requests: 50 a second",
      },
    ],
    ["error", { code: "disconnected", message: "too many requests: 50 a second (4429)" }],
  ]);
});

test("where the Close frame gives no reason the goodbye does, or the code", () => {
  const { client, clock, socket } = liveWorld();
  socket().deliver({
    type: "goodbye",
    code: 1012,
    reason: "restart for an update",
    retry_after_ms: 100,
    jitter_ms: 0,
  });
  socket().drop(1012);
  expect(client.state).toMatchObject({ code: 1012, reason: "restart for an update" });
  clock.advance(100);
  socket().deliver(welcome());
  socket().drop(4408);
  expect(client.state).toMatchObject({ code: 4408, reason: "what was sent was not read in time" });
});

test("a final close says why as well, after the state", () => {
  const { client, socket, said } = liveWorld();
  socket().drop(4410);
  expect(said("state", "error")).toMatchObject([
    ["state", { kind: "closed", code: 4410, reason: "the room is over" }],
    ["error", { message: "the room is over (4410)" }],
  ]);
  expect(client.state.kind).toBe("closed");
});

test("silence and handshakes without an answer are reasons", () => {
  const it = world();
  it.client.connect();
  it.clock.advance(10_000);
  expect(it.client.state).toMatchObject({ reason: "no answer to the handshake" });
  const live = liveWorld();
  live.clock.advance(15_000);
  expect(live.client.state).toMatchObject({ reason: "the server fell silent" });
});

test("with the package ws a refused handshake tells the status and what is wrong", async () => {
  const url = await listening(refusing(404, { title: "Not Found", detail: "no such path" }));
  expect(await reasonOf(url, { WebSocket, fetch: null })).toBe("HTTP 404 Not Found: no such path");
});

test("with the package ws a server that is not there is told by the system's word", async () => {
  const server = refusing(404, "");
  const url = await listening(server);
  server.close();
  await once(server, "close");
  expect(await reasonOf(url, { WebSocket, fetch: null })).toMatch(/ECONNREFUSED.*\(1006\)/);
});

test("a body that does not end, or is no problem, holds nothing up", async () => {
  const endless = createServer((_, response) => {
    response.writeHead(503);
    response.write("x".repeat(100_000));
  });
  const url = await listening(endless);
  const expected = "HTTP 503 Service Unavailable";
  expect(await reasonOf(url, { WebSocket, fetch: null })).toBe(expected);
  expect(await reasonOf(url, { WebSocket: Mute })).toBe(expected);
});

test.each([
  [404, { detail: "no such path" }, "HTTP 404 Not Found: no such path"],
  [503, { title: "too many connections" }, "HTTP 503 Service Unavailable: too many connections"],
  [426, {}, /there is a server, but the WebSocket handshake failed/],
] as const)(
  "where the WebSocket does not tell it is asked by HTTP: %d",
  async (status, body, told) => {
    const url = await listening(refusing(status, body));
    const message = await reasonOf(url, { WebSocket: Mute });
    if (typeof told === "string") expect(message).toBe(told);
    else expect(message).toMatch(told);
  },
);

test("what cannot be asked by HTTP either is told as that", async () => {
  const fetch = () => Promise.reject(new TypeError("network error"));
  const message = await reasonOf("ws://127.0.0.1:9/v1/ws", { WebSocket: Mute, fetch });
  expect(message).toBe("nothing answers there (1006)");
});

test("HTTP is asked after failed handshakes only, now and then, and not for longer than three seconds", async () => {
  const asked: AbortSignal[] = [];
  const fetch = ((_: string, { signal }: { signal: AbortSignal }) => {
    asked.push(signal);
    return new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error())));
  }) as typeof globalThis.fetch;
  const { client, clock, socket, said } = world({ fetch, transports: ["websocket"] });
  client.connect();
  socket().deliver(welcome());
  socket().drop();
  expect(asked).toHaveLength(0);
  for (let attempt = 0; attempt < 5; attempt++) {
    clock.advance(30_000 / 2 ** 7);
    if (client.state.kind === "reconnecting" && client.state.retry_at === null) socket().drop();
  }
  expect(asked).toHaveLength(1);
  said();
  clock.advance(3_000);
  expect(asked[0]!.aborted).toBe(true);
  await new Promise((resolve) => setImmediate(resolve));
  expect(said("error")).toMatchObject([["error", { code: "disconnected" }]]);
  client.close();
});

test("close ends a connection at once, also where the other end never says that it is closed", async () => {
  // It takes the handshake, and says nothing more.
  const server = createServer();
  const connected = new Promise<Socket>((resolve) =>
    server.on("upgrade", ({ headers }, socket: Socket) => {
      const key = `${headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
      const accept = createHash("sha1").update(key).digest("base64");
      const head = `Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}`;
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\n${head}\r\nSec-WebSocket-Protocol: tickcast.v1.msgpack\r\n\r\n`,
      );
      socket.on("error", () => {}).resume();
      resolve(socket);
    }),
  );
  const client = new TickcastClient(await listening(server), { WebSocket });
  client.connect();
  const socket = await connected;
  const ended = new Promise((resolve) => socket.on("close", resolve));
  client.close();
  const began = performance.now();
  await ended;
  // The implementation itself waits for 30 s.
  expect(performance.now() - began).toBeLessThan(10_000);
});
