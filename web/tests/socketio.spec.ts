import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { expect, test } from "@playwright/test";
import { Server } from "./server.js";

/** The page of docs/socketio.md as it stands, but for the server's port. Its script comes from the package, not from its CDN. */

const WEB = join(import.meta.dirname, "..");
const DOCS = join(WEB, "../docs/socketio.md");
const CLIENT = join(WEB, "node_modules/socket.io-client/dist/socket.io.min.js");

test("the page of the documentation shows prices, and comes back to a server that was replaced", async ({
  page,
}) => {
  const [, html] = /```html\n(.*?)```/s.exec(readFileSync(DOCS, "utf8")) ?? [];
  expect(html).toContain("http://127.0.0.1:8080");
  const server = await Server.on();
  await server.start();
  const errors: string[] = [];
  page.on("pageerror", (error) => errors.push(error.message));
  await page.route("https://cdn.jsdelivr.net/npm/socket.io-client@*/**", (route) =>
    route.fulfill({ path: CLIENT, contentType: "text/javascript" }),
  );
  const body = html!.replace("http://127.0.0.1:8080", server.url.replace(/\/$/, ""));
  // A real server: a browser lets a page from nowhere reach nothing on this machine.
  const pages = createServer((_, answer) =>
    answer.setHeader("content-type", "text/html").end(body),
  );
  await once(pages.listen(0, "127.0.0.1"), "listening");
  try {
    await page.goto(`http://127.0.0.1:${(pages.address() as AddressInfo).port}/prices.html`);
    const [state, rows] = [page.locator("#state"), page.locator("#prices tr")];
    await expect(state).toHaveText("live");
    await expect(rows.first()).toHaveText(/^[A-Z.]+ \d+\.\d+ \d+\.\d+$/);
    const first = await rows.allTextContents();
    await expect.poll(() => rows.allTextContents()).not.toEqual(first);

    await server.kill();
    await expect(state).not.toHaveText("live");
    await server.start();
    await expect(state).toHaveText("live");
    const second = await rows.allTextContents();
    await expect.poll(() => rows.allTextContents()).not.toEqual(second);
    expect(errors).toEqual([]);
  } finally {
    pages.close();
    await server.kill();
  }
});
