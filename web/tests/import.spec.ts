import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "@playwright/test";
import { Server } from "./server.js";

/** The page of the README, which imports the client from a server. */
const README = readFileSync(new URL("../client/README.md", import.meta.url), "utf8");
const HTML = /```html\n([^]*?)```/.exec(README)![1]!;

/** The page with the address of `server`. */
const pageFor = (server: Server) => HTML.replaceAll("127.0.0.1:8080", new URL(server.url).host);

/** A web server of this machine by a name that is not its own, so that it is a stranger to Tickcast. */
async function elsewhere(run: (origin: string, show: (body: string) => void) => Promise<void>) {
  let shown = "";
  const web = createServer((_, answer) => {
    answer.writeHead(200, { "content-type": "text/html" }).end(shown);
  });
  await once(web.listen(0, "127.0.0.1"), "listening");
  const { port } = web.address() as AddressInfo;
  try {
    await run(`http://desk.localhost:${port}`, (body) => (shown = body));
  } finally {
    web.closeAllConnections();
    web.close();
  }
}

async function withServer(flags: string, run: (server: Server) => Promise<void>): Promise<void> {
  const server = await Server.on();
  await server.start(`--symbols 60 --rate 2000 --seed 7 ${flags}`.trim());
  try {
    await run(server);
  } finally {
    await server.kill();
  }
}

const SHOWN = /^[A-Z0-9./]+ \d+\.\d+$/;

test("the page of the README works as it is, beside the server", ({ page }) =>
  withServer("", async (server) => {
    const address = `${server.url}page.html`;
    const body = pageFor(server);
    await page.route(address, (route) => route.fulfill({ contentType: "text/html", body }));
    await page.goto(address);
    await expect(page.locator("pre")).toHaveText(SHOWN);
  }));

test("it works in a page of another origin that the operator has named", ({ page }) =>
  elsewhere((origin, show) =>
    withServer(`--allow-origin ${origin}`, async (server) => {
      show(pageFor(server));
      await page.goto(origin);
      await expect(page.locator("pre")).toHaveText(SHOWN);
    }),
  ));

test("and in no other", ({ page }) =>
  elsewhere((origin, show) =>
    withServer("", async (server) => {
      show(pageFor(server));
      const refused = page.waitForEvent("console", (message) => message.type() === "error");
      await page.goto(origin);
      expect((await refused).text()).toContain("CORS");
      await expect(page.locator("pre")).toBeEmpty();
    }),
  ));

test("the client is one file, with its types, and is fetched again only when it has changed", () =>
  withServer("", async (server) => {
    const script = await fetch(`${server.url}client.js`);
    expect(script.headers.get("content-type")).toMatch(/^text\/javascript/);
    const text = await script.text();
    expect(text).not.toMatch(/^import |from"\.\//m);
    const tag = script.headers.get("etag")!;
    const again = await fetch(`${server.url}client.js`, { headers: { "if-none-match": tag } });
    expect(again.status).toBe(304);
    const types = await fetch(`${server.url}client.d.ts`);
    expect(types.headers.get("content-type")).toBe("text/plain; charset=utf-8");
    expect(await types.text()).toContain("declare class TickcastClient");
  }));
