import { connect, type Socket } from "node:net";
import { expect, test, type Page } from "@playwright/test";
import { WebSocket } from "ws";
import { violations } from "./page.js";
import { Server } from "./server.js";

const AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"];

let server: Server;

test.beforeEach(async () => {
  server = await Server.on();
});

test.afterEach(async () => {
  await server.kill();
});

const figure = (page: Page, name: string) =>
  page
    .locator(".figure")
    .filter({ has: page.getByText(name, { exact: true }) })
    .locator("strong");
const slow = (page: Page) => page.getByTestId("slow").getByRole("row");

/** Everything that goes wrong on the page, its policy's refusals included. */
function watchErrors(page: Page): string[] {
  const errors: string[] = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => {
    const expected = /WebSocket connection .* failed/.test(message.text());
    if (message.type() === "error" && !expected) errors.push(message.text());
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(server.url)) errors.push(`asked ${request.url()}`);
  });
  return errors;
}

async function subscriber(topics: string): Promise<WebSocket> {
  const url = `${server.url.replace("http", "ws")}v1/ws?topics=${topics}`;
  const socket = new WebSocket(url, ["tickcast.v1.msgpack"]);
  await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
  return socket;
}

/** A client that shakes hands and never reads. */
function deaf(topics: string): Socket {
  const { hostname, port, host } = new URL(server.url);
  const socket = connect(Number(port), hostname);
  socket.pause();
  socket.on("error", () => {}); // the server may end it
  socket.write(
    `GET /v1/ws?format=json&topics=${topics} HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
  );
  return socket;
}

test("an operator sees sessions come and go, what they watch, and how the server does", async ({
  page,
}, info) => {
  const errors = watchErrors(page);
  await server.start("--symbols 60 --rate 2000 --seed 7");
  await page.goto(`${server.url}ops`);
  await expect(page.getByTestId("mode")).toHaveText("SIMULATED");
  await expect(page.getByTestId("connection")).toHaveText("Live");
  await expect(figure(page, "Sessions")).toHaveText("1");
  await expect(page.getByTestId("feed")).toHaveText("simulator, live, ×1");
  await expect(figure(page, "Ticks in")).toHaveText(/^(1\.\d\dk|[12],\d{3})\/s$/);

  const sockets = await Promise.all(["quote:*", "quote:*", "trades:*"].map(subscriber));
  await expect(figure(page, "Sessions")).toHaveText("4");
  const watched = page.getByRole("region", { name: "Topics by watchers" }).getByRole("row");
  await expect(watched.nth(1)).toContainText(/^quote:\*.*2$/);
  const loudest = page.getByRole("region", { name: "Topics by rate" }).getByRole("row");
  await expect(loudest.nth(20)).toContainText(/^(quote|trades):/);
  await expect(page.getByTestId("p50")).toHaveText(/\d (µs|ms)$/);
  await expect(page.locator(".bars i.some").first()).toBeVisible();
  await expect(page.locator(".figure polyline").first()).toHaveAttribute("points", /\S+ \S+/);
  await page.getByText("As a table").click();
  await expect(page.getByRole("rowheader", { name: /^\d.* to .*s$/ }).first()).toBeVisible();
  await page.screenshot({ path: info.outputPath("ops.png"), fullPage: true });

  for (const socket of sockets) socket.close();
  await expect(figure(page, "Sessions")).toHaveText("1");
  await expect(page.getByText("1000: 3")).toBeVisible();
  expect(errors).toEqual([]);
});

test("a client that does not read is shown with what conflation saves it", async ({ page }) => {
  await server.start("--symbols 60 --rate 20000 --seed 7");
  await page.goto(`${server.url}ops`);
  await expect(page.getByTestId("slow")).toContainText("No session is slow.");
  const client = deaf("quote:*");
  try {
    await expect(slow(page)).toHaveCount(2);
    // Session, shard, how long, how far, how late, topics, waiting, merged, saved, kept.
    await expect(slow(page).nth(1)).toContainText(/\d+ s.*60.*%.*B$/);
    const saved = slow(page).nth(1).getByRole("cell").nth(7);
    await expect(saved).toHaveText(/^(9\d|100)%$/);
  } finally {
    client.destroy();
  }
  await expect(page.getByTestId("slow")).toContainText("No session is slow.");
});

test("a server that went away leaves old figures that say so, and is found again", async ({
  page,
}) => {
  await server.start();
  await page.goto(`${server.url}ops`);
  await expect(figure(page, "Sessions")).toHaveText("1");
  await server.kill();
  await expect(page.getByTestId("connection")).toHaveText(
    /^Reconnecting, attempt \d+ (now|in \d+ s)$/,
  );
  await expect(page.locator(".lost")).toContainText("These figures are of");
  await expect(page.locator("main")).toHaveClass(/old/);
  expect(await violations(page, { tags: AXE_TAGS })).toEqual([]);
  await server.start();
  await expect(page.locator(".lost")).toBeHidden();
  await expect(page.locator("main")).not.toHaveClass(/old/);
});

test("a server that does not allow it says how it can be allowed", async ({ page }) => {
  await server.start("--symbols 60 --rate 2000 --ops=false");
  await page.goto(`${server.url}ops`);
  await expect(page.getByTestId("refused")).toContainText("--ops");
  await expect(page.getByTestId("refused").getByRole("link")).toHaveAttribute("href", "metrics");
  expect(await violations(page, { tags: AXE_TAGS })).toEqual([]);
});

for (const colorScheme of ["dark", "light"] as const)
  test(`the ${colorScheme} page meets WCAG AA and fits a phone`, async ({ page }, info) => {
    await server.start();
    await page.emulateMedia({ colorScheme });
    await page.goto(`${server.url}ops`);
    await expect(page.locator(".bars i.some").first()).toBeVisible();
    expect(await violations(page, { tags: AXE_TAGS })).toEqual([]);
    await page.setViewportSize({ width: 360, height: 780 });
    await expect(page.getByTestId("connection")).toBeInViewport();
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(360);
    expect(await violations(page, { tags: AXE_TAGS })).toEqual([]);
    await page.screenshot({
      path: info.outputPath(`ops-${colorScheme}-phone.png`),
      fullPage: true,
    });
  });

test("everything is reached with the keyboard", async ({ page }) => {
  await server.start();
  await page.goto(`${server.url}ops`);
  await expect(page.locator(".bars i.some").first()).toBeVisible();
  const reached = new Set<string>();
  for (let i = 0; i < 20; i++) {
    await page.keyboard.press("Tab");
    reached.add(await page.evaluate(() => document.activeElement?.textContent?.trim() ?? ""));
  }
  for (const name of ["Dashboard", "Metrics", "What is what", "5 min", "As a table"])
    expect([...reached]).toContain(name);
  await page.getByRole("button", { name: "5 min" }).focus();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("button", { name: "5 min" })).toHaveAttribute("aria-pressed", "true");
});
