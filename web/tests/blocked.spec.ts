import { once } from "node:events";
import { createServer, request, type IncomingMessage, type ServerResponse } from "node:http";
import { connect, type AddressInfo, type Socket } from "node:net";
import { expect, test, type Page } from "@playwright/test";
import { Server } from "./server.js";

/** What becomes of an attempt to open a WebSocket: it is answered with a status, never, or gets through. */
type Upgrades = number | "hang" | "pass";

/** A proxy in front of `server` as there are some between offices and the world. */
class Proxy {
  /** When each kind of request came first. */
  readonly seen = new Map<string, number>();
  private readonly sockets = new Set<Socket>();
  private readonly http = createServer((incoming, outgoing) => this.pass(incoming, outgoing));

  private constructor(
    private readonly server: Server,
    public upgrades: Upgrades,
    /** Whether an answer is passed on only when it has ended. */
    private readonly collects: boolean,
  ) {}

  static async before(server: Server, upgrades: Upgrades, collects = false): Promise<Proxy> {
    const proxy = new Proxy(server, upgrades, collects);
    proxy.http.on("upgrade", (asked, socket: Socket) => proxy.upgrade(asked, socket));
    proxy.http.on("connection", (socket) => proxy.sockets.add(socket));
    await once(proxy.http.listen(0, "127.0.0.1"), "listening");
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.http.address() as AddressInfo).port}/`;
  }

  stop(): void {
    for (const socket of this.sockets) socket.destroy();
    this.http.close();
  }

  private note(path: string): void {
    const kind = path.split("?")[0]!;
    if (!this.seen.has(kind)) this.seen.set(kind, performance.now());
  }

  private pass(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const { method, headers, url = "" } = incoming;
    this.note(url);
    const { port } = new URL(this.server.url);
    const asked = request({ host: "127.0.0.1", port, path: url, method, headers }, (answer) => {
      const begin = () => outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      if (!this.collects) return void answer.pipe(begin());
      const pieces: Buffer[] = [];
      answer.on("data", (piece: Buffer) => pieces.push(piece));
      answer.on("end", () => begin().end(Buffer.concat(pieces)));
    });
    asked.on("error", () => outgoing.destroy());
    outgoing.on("close", () => asked.destroy());
    incoming.pipe(asked);
  }

  private upgrade({ url, rawHeaders }: IncomingMessage, socket: Socket): void {
    this.note(url ?? "");
    socket.on("error", () => {});
    if (this.upgrades === "hang") return;
    if (this.upgrades !== "pass")
      return void socket.end(`HTTP/1.1 ${this.upgrades} No\r\nContent-Length: 0\r\n\r\n`);
    const lines = rawHeaders.flatMap((name, i) => (i % 2 ? [] : [`${name}: ${rawHeaders[i + 1]}`]));
    const server = connect(Number(new URL(this.server.url).port), "127.0.0.1");
    server.on("error", () => socket.destroy());
    server.write(`GET ${url} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`);
    server.pipe(socket).pipe(server);
  }
}

/** What the dialog of the connection says of a name. */
const fact = (page: Page, name: string) =>
  page
    .locator("#connection-details dt")
    .filter({ hasText: name })
    .locator("xpath=following-sibling::dd[1]");

/** Opens the dashboard, and waits until its prices move. */
async function works(page: Page, proxy: Proxy, transport: RegExp): Promise<void> {
  await page.goto(proxy.url);
  await expect(page.getByTestId("connection")).toHaveText(/Live|Lagging/);
  await page.getByTestId("connection").click();
  await expect(fact(page, "Transport")).toHaveText(transport);
  const position = async () =>
    Number((await fact(page, "Position").textContent())!.replace(/\D/g, ""));
  const before = await position();
  await expect.poll(position).toBeGreaterThan(before);
  await expect(fact(page, "Entries missed")).toHaveText("0");
  await expect(page.getByRole("row").filter({ hasText: "AAPL" }).first()).toContainText(/\d\.\d\d/);
}

/** From the first attempt by WebSocket to the first request of the transport that gets through. */
function foundAfter(proxy: Proxy, path: string): number {
  return proxy.seen.get(path)! - proxy.seen.get("/v1/ws")!;
}

test.describe("behind a proxy", () => {
  let server: Server;
  let proxy: Proxy;
  test.beforeEach(async () => {
    server = await Server.on();
    await server.start();
  });
  test.afterEach(async () => {
    proxy.stop();
    await server.kill();
  });

  for (const status of [403, 400])
    test(`that refuses WebSockets with ${status} prices come as Server-Sent Events`, async ({
      page,
    }, info) => {
      proxy = await Proxy.before(server, status);
      await works(page, proxy, /^Server-Sent Events$/);
      expect(foundAfter(proxy, "/v1/sse")).toBeLessThan(2_000);
      await page.screenshot({ path: info.outputPath("page.png") });
    });

  test("that lets WebSockets hang it takes less than two seconds to find another way", async ({
    page,
  }, info) => {
    proxy = await Proxy.before(server, "hang");
    await works(page, proxy, /^Server-Sent Events$/);
    expect(foundAfter(proxy, "/v1/sse")).toBeLessThan(2_000);
    await page.screenshot({ path: info.outputPath("page.png") });
  });

  test("that collects streams as well, prices are polled", async ({ page }, info) => {
    proxy = await Proxy.before(server, "hang", true);
    await works(page, proxy, /^polls$/);
    expect(foundAfter(proxy, "/v1/poll")).toBeLessThan(2_000);
    await page.screenshot({ path: info.outputPath("page.png") });
  });

  test("that lets WebSockets through after all, the page goes over to one, and misses nothing", async ({
    page,
  }) => {
    proxy = await Proxy.before(server, 403);
    await works(page, proxy, /^Server-Sent Events$/);
    proxy.upgrades = "pass";
    await expect(fact(page, "Transport")).toHaveText("WebSocket");
    await expect(page.getByTestId("connection")).toHaveText(/Live|Lagging/);
    await expect(fact(page, "Entries missed")).toHaveText("0");
  });
});
