import { expect, test } from "./page.js";

test("a symbol is found by / with part of its name, and opened with Enter", async ({
  desk,
  page,
}) => {
  await desk.open();
  await page.keyboard.press("/");
  const box = page.getByRole("combobox", { name: "Search symbol or name" });
  await expect(box).toBeFocused();
  await page.keyboard.type("corp");
  const options = page.getByRole("option");
  await expect(options.first()).toContainText(/corp/i);
  await expect(options.first()).toHaveAttribute("aria-selected", "true");
  await page.keyboard.press("ArrowDown");
  const symbol = await options.nth(1).locator("b").innerText();
  await expect(options.nth(1)).toHaveAttribute("aria-selected", "true");
  await page.keyboard.press("Enter");
  await expect(desk.title).toHaveText(symbol);
  await expect(page.getByRole("listbox", { name: "Symbols" })).toBeHidden();

  await page.keyboard.press("Control+k");
  await page.keyboard.type("zzzz");
  await expect(page.locator(".results")).toContainText("No symbol or name contains “zzzz”.");
  await page.keyboard.press("Escape");
  await expect(page.locator(".results")).toBeHidden();
});

test("the chart has candles and volume at once, goes on live, and in longer bars", async ({
  desk,
  page,
}, info) => {
  await desk.open();
  const chart = page.locator(".chart");
  const bars = async () => Number(await chart.getAttribute("data-bars"));
  await expect(chart.locator("canvas").first()).toBeVisible();
  // Some seconds of market, so that there is a history to open another page with.
  await expect.poll(bars).toBeGreaterThanOrEqual(6);
  await expect(chart.locator(".legend")).toHaveText(
    /O [\d,.]+ H [\d,.]+ L [\d,.]+ C [\d,.]+ V [\d,.]+/,
  );
  const closes = () => chart.locator(".legend span:nth-child(4)").innerText();
  const before = await closes();
  await expect.poll(closes).not.toBe(before);
  await page.screenshot({ path: info.outputPath("chart.png") });

  const requests: string[] = [];
  page.on("request", (request) => requests.push(new URL(request.url()).pathname));
  await page.reload();
  await expect.poll(bars).toBeGreaterThanOrEqual(6);
  expect(requests.filter((path) => path.startsWith("/v1/bars/")).length).toBeGreaterThan(0);

  const seconds = await bars();
  await page.keyboard.press("2");
  await expect(page.getByRole("button", { name: "5 seconds" })).toHaveAttribute(
    "aria-pressed",
    "true",
  );
  await expect.poll(bars).toBeLessThanOrEqual(Math.ceil(seconds / 5) + 2);
  expect(await bars()).toBeGreaterThan(0);
  for (const [key, name] of [
    ["3", "1m"],
    ["4", "5m"],
    ["5", "15m"],
    ["6", "1h"],
  ] as const) {
    await page.keyboard.press(key);
    await expect(chart.locator(".choices [aria-pressed=true]")).toHaveText(name);
    await expect.poll(bars).toBeGreaterThan(0);
    expect(new URL(page.url()).searchParams.get("tf")).toBe(name);
  }
  await expect(chart.locator(".closes")).toHaveText(/^closes in \d+:\d\d$/);
  await expect(page.getByRole("link", { name: "Charts by TradingView" })).toBeVisible();

  await page.keyboard.press("1");
  await expect.poll(bars).toBeGreaterThan(5);
  const canvas = (await chart.locator(".canvas").boundingBox())!;
  await page.mouse.move(canvas.x + 100, canvas.y + 60);
  await page.mouse.down();
  await page.mouse.move(canvas.x + 420, canvas.y + 60, { steps: 4 });
  await page.mouse.up();
  await page.getByRole("button", { name: "Go to the newest bar" }).click();
  await expect(page.getByRole("button", { name: "Go to the newest bar" })).toBeHidden();
});

test("time and sales go on at the top, wait for one who reads, and hide small trades", async ({
  desk,
  page,
}) => {
  await desk.open();
  const lines = page.locator(".tape .lines");
  const newest = () => desk.trades.first().innerText();
  await expect(desk.trades.nth(5)).toBeVisible();
  await expect(desk.trades.first()).toHaveText(/^\d\d:\d\d:\d\d\.\d{3}[\d,.]+[BS]?\w*$/);
  await expect(page.locator(".tape .buy, .tape .sell").first()).toBeVisible();
  const first = await newest();
  await expect.poll(newest).not.toBe(first);

  await expect
    .poll(() => lines.evaluate((list) => list.scrollHeight - list.clientHeight))
    .toBeGreaterThan(80);
  await lines.evaluate((list) => (list.scrollTop = 40));
  const pill = page.getByTestId("new-trades");
  await expect(pill).toHaveText(/^\d+ new$/);
  const held = await desk.trades.allInnerTexts();
  const waiting = await pill.innerText();
  await expect.poll(() => pill.innerText()).not.toBe(waiting);
  expect(await desk.trades.allInnerTexts()).toEqual(held);
  await pill.click();
  await expect(pill).toBeHidden();
  await expect.poll(() => desk.trades.allInnerTexts()).not.toEqual(held);

  const sizes = async () =>
    (await desk.trades.locator("> :nth-child(3)").allInnerTexts()).map((text) =>
      Number(text.replaceAll(",", "")),
    );
  const smallest = Math.min(...(await sizes())) + 1;
  await page.getByLabel("Smallest size shown").fill(String(smallest));
  await desk.frame();
  await expect.poll(async () => Math.min(...(await sizes()))).toBeGreaterThanOrEqual(smallest);
  await page.getByLabel("Smallest size shown").fill("999999999");
  await expect(page.locator(".tape .empty")).toHaveText(
    "No trade of this size has been reported yet.",
  );
});

test("the heatmap colours sectors by their change, and opens a tile", async ({
  desk,
  page,
}, info) => {
  await desk.open();
  await page.keyboard.press("h");
  const tiles = page.locator(".heatmap .tile");
  await expect.poll(() => tiles.count()).toBeGreaterThan(20);
  await expect(page.locator(".heatmap .sector").first()).toHaveText(/^[\w-]+ [+−]?\d+\.\d\d%$/i);
  await expect(page.getByRole("img", { name: /^Colours from/ })).toBeVisible();
  await page.screenshot({ path: info.outputPath("heatmap.png") });

  await tiles.first().focus();
  const from = await tiles.first().getAttribute("data-symbol");
  await page.keyboard.press("ArrowRight");
  const to = await page.evaluate(() => (document.activeElement as HTMLElement).dataset["symbol"]);
  expect(to).toBeTruthy();
  expect(to).not.toBe(from);
  await page.keyboard.press("Enter");
  await expect(desk.title).toHaveText(to!);

  await page.getByRole("button", { name: "As a table" }).click();
  await expect(page.locator(".heatmap tbody tr").first()).toContainText("%");
  await page.getByRole("button", { name: "As a table" }).click();
  const sector = (await page.locator(".heatmap .sector").first().innerText()).split(" ")[0]!;
  await page.locator(".heatmap .sector").first().click();
  await expect(page.locator(".heatmap .sector")).toHaveCount(1);
  expect(new URL(page.url()).searchParams.get("sector")).toBe(sector.toLowerCase());
  await page.keyboard.press("w");
  await expect(page.getByTestId("count")).toHaveText(/of 60$/);
});

test("movers are ranked, and open", async ({ desk, page }) => {
  await desk.open();
  const lines = page.locator(".movers .line");
  const percents = async () =>
    (await lines.locator(".percent").allInnerTexts()).map((text) =>
      Number(text.replace("−", "-").replace(/[+%]/g, "")),
    );
  await expect.poll(async () => (await percents()).length).toBeGreaterThan(5);
  const gains = await percents();
  expect(gains).toEqual([...gains].sort((a, b) => b - a));
  expect(gains[0]).toBeGreaterThan(0);
  await page.getByRole("button", { name: "Losers" }).click();
  await expect.poll(async () => (await percents())[0]).toBeLessThan(0);
  const symbol = await lines.first().locator("b").innerText();
  await page.getByRole("listbox", { name: "Movers" }).focus();
  await page.keyboard.press("Home");
  await page.keyboard.press("Enter");
  await expect(desk.title).toHaveText(symbol);
});
