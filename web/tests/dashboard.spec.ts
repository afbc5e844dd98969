import { expect, test, type Page } from "@playwright/test";
import { Server } from "./server.js";

let server: Server;

test.beforeEach(async () => {
  server = await Server.on();
  await server.start();
});

test.afterEach(async () => {
  await server.kill();
});

/** Everything the page shows of the watchlist now. */
const rows = (page: Page) => page.locator(".grid .canvas [role=row]:visible");
const connection = (page: Page) => page.getByTestId("connection");

/** Waits until the prices on the page are others than now. */
async function expectPricesToChange(page: Page): Promise<void> {
  const prices = () => rows(page).locator(".last").allInnerTexts();
  const before = await prices();
  await expect.poll(prices).not.toEqual(before);
}

/** Errors of the page, besides those of the connections that fail while the server is away. */
function watchErrors(page: Page): string[] {
  const errors: string[] = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => {
    const expected = /WebSocket connection .* failed/.test(message.text());
    if (message.type() === "error" && !expected) errors.push(message.text());
  });
  return errors;
}

test("the page shows live prices, says what they are, and survives the server's death", async ({
  page,
}, info) => {
  const errors = watchErrors(page);
  await page.goto(server.url);

  await expect(connection(page)).toHaveText("Live");
  await expect(page.getByTestId("feed")).toHaveText("SIMULATED");
  await expect(page.getByTestId("count")).toHaveText("60 symbols");
  await expect(page.getByRole("grid")).toHaveAttribute("aria-rowcount", "61");
  expect(await symbolsByScrolling(page)).toBeGreaterThanOrEqual(50);
  await expectPricesToChange(page);

  const symbol = await rows(page).nth(3).locator(".symbol").innerText();
  await rows(page).nth(3).click();
  await expect(page.getByRole("heading", { name: symbol, exact: true })).toBeVisible();
  expect(new URL(page.url()).hash).toBe(`#${symbol}`);
  await expect(page.locator(".chart canvas").first()).toBeVisible();
  await expect(page.locator(".legend")).toContainText("O ");
  await expect.poll(() => page.getByTestId("trade").count()).toBeGreaterThan(2);
  await expect(page.getByRole("link", { name: "Charts by TradingView" })).toBeVisible();

  // As the README's picture, a chart with some history looks better.
  const bars = process.env["TICKCAST_SCREENSHOT"] ? 75 : 5;
  test.setTimeout(120_000 + bars * 2_000);
  const drawn = async () => Number(await page.locator(".chart").getAttribute("data-bars"));
  await expect.poll(drawn, { timeout: bars * 4_000 }).toBeGreaterThanOrEqual(bars);
  const path = process.env["TICKCAST_SCREENSHOT"] ?? info.outputPath("dashboard.png");
  await page.screenshot({ path });

  await server.kill();
  await expect(connection(page)).toHaveText(/^Reconnecting, attempt \d+ (now|in \d+ s)$/);
  await expect(page.locator(".lost")).toContainText("The prices shown are of");

  await server.start();
  await expect(connection(page)).toHaveText("Live", { timeout: 30_000 });
  await expect(page.locator(".lost")).toBeHidden();
  await expectPricesToChange(page);
  await expect(page.getByRole("heading", { name: symbol, exact: true })).toBeVisible();
  await expect.poll(() => page.getByTestId("trade").count()).toBeGreaterThan(2);
  expect(errors).toEqual([]);
});

test("a symbol is found and chosen with the keyboard alone", async ({ page }) => {
  await page.goto(server.url);
  await expect(page.getByTestId("count")).toHaveText("60 symbols");
  const symbol = await rows(page).nth(7).locator(".symbol").innerText();
  await page.keyboard.press("/");
  await expect(page.getByRole("searchbox")).toBeFocused();
  await page.keyboard.type(symbol.toLowerCase());
  await expect(page.getByTestId("count")).toContainText("of 60 symbols");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { name: symbol, exact: true })).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(page.getByTestId("count")).toHaveText("60 symbols");
  await expect(page.getByRole("row", { selected: true })).toContainText(symbol);

  await page.getByRole("grid").focus();
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  const second = await rows(page)
    .and(page.locator("[aria-rowindex='3']"))
    .locator(".symbol")
    .innerText();
  await expect(page.getByRole("heading", { name: second, exact: true })).toBeVisible();
});

test("the page fits a phone", async ({ page }) => {
  await page.setViewportSize({ width: 360, height: 780 });
  await page.goto(server.url);
  await expect(connection(page)).toBeInViewport();
  await expect(page.getByTestId("feed")).toBeInViewport();
  await expectPricesToChange(page);
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(360);
});

/** Only the rows in sight are in the document: scrolls through all of them, and counts the symbols. */
async function symbolsByScrolling(page: Page): Promise<number> {
  const seen = new Set<string>();
  for (const top of [0, 600, 0]) {
    await page.getByRole("grid").evaluate((grid, top) => (grid.scrollTop = top), top);
    await page.evaluate(() => new Promise(requestAnimationFrame));
    for (const symbol of await rows(page).locator(".symbol").allInnerTexts()) seen.add(symbol);
  }
  return seen.size;
}
