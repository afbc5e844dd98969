import { expect, test } from "@playwright/test";
import { WebSocket } from "ws";
import { TickcastClient, type Trade } from "../client/src/index.js";
import { Server } from "./server.js";

/** The client in Node, with the package `ws` and a real server. */
async function withClient(run: (client: TickcastClient, server: Server) => Promise<void>) {
  const server = await Server.on();
  await server.start();
  const client = new TickcastClient(`${server.url.replace("http", "ws")}v1/ws`, {
    WebSocket,
  });
  try {
    await run(client, server);
  } finally {
    client.close();
    await server.kill();
  }
}

test("trades are numbered without a hole, and images are proved by their checksums", () =>
  withClient(async (client) => {
    const trades = new Map<string, Trade[]>();
    const symbols = new Set<string>();
    const errors: unknown[] = [];
    client.on("error", (error) => errors.push(error));
    client.on("update", ({ changes }) => {
      for (const change of changes) {
        if (change.kind === "instrument") symbols.add(change.instrument.symbol);
        if (change.kind !== "trades") continue;
        const { symbol } = change.instrument;
        trades.set(symbol, [...(trades.get(symbol) ?? []), ...change.trades]);
      }
    });
    client.subscribe(["trades:*", "quote:*", "day:*", "bars.1s:*"], { maxHz: 50, times: true });
    client.connect();
    await expect.poll(() => [...trades.values()].flat().length).toBeGreaterThan(1_000);
    expect(errors).toEqual([]);
    expect(client.state.kind).toBe("live");
    await expect.poll(() => symbols.size).toBe(60);
    // One comparison: an expectation for each of some ten thousand trades would keep the client from its socket for a minute.
    const holes = [...trades.values()].flatMap((numbered) =>
      numbered.filter(({ number }, i) => number !== numbered[0]!.number + i),
    );
    expect(holes).toEqual([]);

    const some = [...trades.keys()].slice(0, 20);
    const topics = some.flatMap((symbol) => [
      `quote:${symbol}`,
      `day:${symbol}`,
      `bars.1s:${symbol}`,
    ]);
    const results = await client.verify(topics);
    expect(results).toHaveLength(topics.length);
    expect(results.filter(({ matches }) => matches !== true)).toEqual([]);
    expect(errors).toEqual([]);
  }));

test("a client outlives its server, and begins anew on the tape of the next one", () =>
  withClient(async (client, server) => {
    const said: string[] = [];
    client.on("state", ({ kind }) => said.push(kind));
    client.on("replaced", () => said.push("replaced"));
    client.subscribe(["quote:*"]);
    client.connect();
    await expect.poll(() => client.state.kind).toBe("live");
    await server.kill();
    await expect.poll(() => client.state.kind).toBe("reconnecting");
    await server.start();
    await expect.poll(() => client.state.kind).toBe("live");
    expect(said.slice(0, 3)).toEqual(["connecting", "live", "reconnecting"]);
    expect(said.slice(-2)).toEqual(["replaced", "live"]);
  }));
