import type { Page } from "@playwright/test";
import { expect, OFTEN, test } from "./page.js";
import type { Server } from "./server.js";

/** What a page costs its server: connections, subscriptions and frames follow what is seen of it. */

// How much a page asks for hangs on how often it draws, and on how much it has to draw.
test.use({ everyFrame: true, flags: "--symbols 60 --rate 2000 --seed 7" });

/** The sum of a metric over its labels. */
async function metric(server: Server, name: string): Promise<number> {
  const text = await (await fetch(`${server.url}metrics`)).text();
  const lines = text
    .split("\n")
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

const connections = (server: Server) => metric(server, "tickcast_connections");

/** Frames a second that are sent to all sessions, by the time that some of them take. */
async function framesPerSecond(server: Server): Promise<number> {
  const FRAMES = 6;
  const frames = () => metric(server, "tickcast_frames_sent_total");
  // From one frame to another: a wait for the first one is not of the rate.
  const before = await frames();
  await expect.poll(frames, OFTEN).toBeGreaterThan(before);
  const [first, began] = [await frames(), performance.now()];
  await expect.poll(frames, OFTEN).toBeGreaterThanOrEqual(first + FRAMES);
  return ((await frames()) - first) / ((performance.now() - began) / 1_000);
}

/** Topics that are subscribed for all tabs, as the details of the connection tell. */
async function topics(page: Page): Promise<number> {
  const fact = page
    .locator("dt", { hasText: "Topics subscribed" })
    .locator("xpath=following-sibling::dd[1]");
  return Number((await fact.textContent())?.replace(/\D/g, ""));
}

/** As the browser tells a page that its tab goes to the background, or comes back. */
async function become(page: Page, state: DocumentVisibilityState): Promise<void> {
  await page.evaluate((state) => {
    Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
    Object.defineProperty(document, "hidden", { value: state === "hidden", configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, state);
}

test("tabs share what one of them has, and nothing is left when the last one is gone", async ({
  desk,
  page,
  context,
}) => {
  const { server } = desk;
  await desk.open();
  const ofOneTab = await connections(server);
  // Over it go a session for what is in sight and one for the universe.
  expect(ofOneTab).toBe(1);
  const others = [await context.newPage(), await context.newPage()];
  for (const other of others) {
    await other.goto(server.url);
    await expect(other.locator(".grid .canvas [role=row]:visible .last").first()).toHaveText(/\d/);
    await expect(other.getByTestId("trade").nth(2)).toBeVisible();
  }
  expect(await connections(server)).toBe(ofOneTab);
  expect(await metric(server, "tickcast_connections_opened_total")).toBe(ofOneTab);

  for (const other of others) await other.close();
  await desk.expectPricesToChange();
  await page.close();
  await expect.poll(() => connections(server)).toBe(0);
});

test.describe("of three hundred symbols", () => {
  test.use({ flags: "--symbols 300 --rate 500 --seed 7" });

  test("what a tab had in sight that has crashed is subscribed no more", async ({
    desk,
    page,
    context,
  }) => {
    await desk.open();
    await expect.poll(() => topics(page)).toBeGreaterThan(50);
    // Quote and day of the rows and of twenty behind them, and a few topics more. What was in sight before the prices had put
    // the rows in order lingers for a while.
    const lingering = async () => (await topics(page)) - 2 * ((await desk.symbols()).length + 20);
    await expect.poll(lingering).toBeLessThan(10);
    const ofOneTab = await topics(page);
    const other = await context.newPage();
    await other.goto(desk.server.url);
    await expect(other.getByRole("grid")).toHaveAttribute("aria-rowcount", "301");
    await other.getByRole("grid").evaluate((grid) => (grid.scrollTop = grid.scrollHeight));
    await expect.poll(() => topics(page)).toBeGreaterThan(1.5 * ofOneTab);
    const devtools = await context.newCDPSession(other);
    const crashed = other.waitForEvent("crash");
    devtools.send("Page.crash").catch(() => {}); // there is nobody left to answer
    await crashed;
    await expect.poll(() => topics(page)).toBe(ofOneTab);
  });
});

test.describe("of ten thousand symbols", () => {
  test.use({ flags: "--symbols 10000 --rate 20000 --seed 7" });

  test("what is in sight is subscribed, however far one scrolls, and has its quotes", async ({
    desk,
    page,
  }) => {
    const { server } = desk;
    await desk.open();
    await expect(page.getByRole("grid")).toHaveAttribute("aria-rowcount", "10001");
    await expect(desk.cell(0, "bid")).toHaveText(/\d/);
    await expect.poll(() => topics(page)).toBeGreaterThan(50);
    const [atRest, asked] = [await topics(page), await metric(server, "tickcast_requests_total")];

    const began = Date.now();
    const grid = page.getByRole("grid");
    let most = 0;
    for (let step = 1; step <= 60; step++) {
      await grid.evaluate((grid, share) => (grid.scrollTop = share * grid.scrollHeight), step / 60);
      await desk.frame();
      if (step % 10 === 0) most = Math.max(most, await topics(page));
    }
    // A subscription and an end to another for each change of the demand, which are ten a second at most.
    const seconds = (Date.now() - began) / 1_000;
    const requests = (await metric(server, "tickcast_requests_total")) - asked;
    expect(requests).toBeLessThan(25 * seconds + 25);
    expect(most).toBeLessThanOrEqual(1_024);

    await expect(desk.cell(9_999, "bid")).toHaveText(/\d/);
    await expect.poll(() => topics(page)).toBeLessThan(1.5 * atRest + 20);
  });
});

test("a page in the background falls to a trickle, and is at now when it is shown again", async ({
  desk,
  page,
}) => {
  const { server } = desk;
  await desk.open();
  await expect(desk.trades.nth(2)).toBeVisible();
  expect(await framesPerSecond(server)).toBeGreaterThan(10);
  // The details are told once a second.
  await expect.poll(() => topics(page)).toBeGreaterThan(100);
  const shown = await topics(page);

  await become(page, "hidden");
  // One a second of the open symbol, and a heartbeat now and then.
  await expect.poll(() => framesPerSecond(server), { timeout: 60_000 }).toBeLessThan(4);
  expect(await connections(server)).toBe(1);

  await become(page, "visible");
  await expect(desk.connection).toHaveText(/Live|Lagging/);
  await desk.expectPricesToChange();
  expect(await framesPerSecond(server)).toBeGreaterThan(10);
  await expect.poll(() => topics(page)).toBe(shown);
});
