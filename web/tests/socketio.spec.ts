import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { expect, test, type Page } from "@playwright/test";
import { Server } from "./server.js";

/** The pages of docs/socketio.md as they stand, but for the server's port. Its script comes from the package, not from its CDN. */

const WEB = join(import.meta.dirname, "..");
const DOCS = join(WEB, "../docs/socketio.md");
const CLIENT = join(WEB, "node_modules/socket.io-client/dist/socket.io.min.js");

/** The page with this in it, for a server. */
function pageWith(text: string, server: Server): string {
  const pages = readFileSync(DOCS, "utf8").matchAll(/```html\n(.*?)```/gs);
  const html = [...pages].map(([, html]) => html!).find((html) => html.includes(text));
  expect(html).toContain("http://127.0.0.1:8080");
  return html!.replace("http://127.0.0.1:8080", server.url.replace(/\/$/, ""));
}

/** Serves its script as the CDN would, and notes what goes wrong in it. */
async function prepare(page: Page, errors: string[]): Promise<void> {
  page.on("pageerror", (error) => errors.push(error.message));
  await page.route("https://cdn.jsdelivr.net/npm/socket.io-client@*/**", (route) =>
    route.fulfill({ path: CLIENT, contentType: "text/javascript" }),
  );
}

test("the page of the documentation shows prices, and comes back to a server that was replaced", async ({
  page,
}) => {
  const server = await Server.on();
  await server.start();
  const errors: string[] = [];
  await prepare(page, errors);
  const body = pageWith("<title>Prices</title>", server);
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

test("the chat of the documentation runs as it is pasted, in two tabs, and brings what was missed", async ({
  context,
}) => {
  const server = await Server.on();
  await server.start("--symbols 3 --rate 50 --seed 7");
  const body = pageWith("<title>Chat</title>", server);
  const pages = createServer((_, answer) =>
    answer.setHeader("content-type", "text/html").end(body),
  );
  await once(pages.listen(0, "127.0.0.1"), "listening");
  const errors: string[] = [];
  const open = async (name: string) => {
    const page = await context.newPage();
    await prepare(page, errors);
    page.on("dialog", (dialog) => void dialog.accept(name));
    await page.goto(`http://127.0.0.1:${(pages.address() as AddressInfo).port}/chat.html`);
    return page;
  };
  const said = (page: Page) => page.locator("#messages li");
  const say = async (page: Page, text: string) => {
    await page.locator("#input").fill(text);
    await page.getByRole("button", { name: "Send" }).click();
  };
  try {
    const ann = await open("Ann");
    const bob = await open("Bob");
    await expect(said(ann)).toHaveText(["Bob has joined"]);
    await ann.locator("#input").pressSequentially("he");
    await expect(bob.locator("#typing")).toHaveText("Ann is typing");
    await say(ann, "hello");
    await expect(said(bob)).toHaveText(["Ann: hello"]);
    await expect(said(ann)).toHaveText(["Bob has joined", "Ann: hello"]);
    await expect(bob.locator("#typing")).toHaveText("");

    await context.setOffline(true);
    await bob.evaluate("socket.io.engine.close()");
    await server.publish([
      { type: "message", channel: "all", event: "chat message", data: "meanwhile" },
    ]);
    await context.setOffline(false);
    await expect(said(bob).filter({ hasText: "meanwhile" })).toHaveCount(1);
    await expect(said(bob).filter({ hasText: "Ann: hello" })).toHaveCount(1);
    await bob.close();
    await expect(said(ann).filter({ hasText: "Bob has left" }).last()).toBeVisible();
    expect(errors).toEqual([]);
  } finally {
    pages.close();
    await server.kill();
  }
});
