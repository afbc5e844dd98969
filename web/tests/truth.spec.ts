import { Line } from "./line.js";
import { expect, test } from "./page.js";

test("the badge tells how fast prices come, and its details how it knows", async ({
  desk,
  page,
  context,
}) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await desk.open();
  const rates = page.getByTestId("rates");
  await expect(rates).toHaveText(
    /^[\d,]+\/[\d,]+ ms\s+[1-9][\d,]* ticks\/s\s+[1-9]\d* frames\/s\s+[\d.]+ K?iB\/s\s+[\d.]+ : 1 merged$/,
  );
  await desk.connection.click();
  const details = page.getByRole("region", { name: "Details of the connection" });
  await expect(details).toContainText("Latency p99, server to screen");
  await expect(details).toContainText("tickcast.v1");
  await details.getByRole("button", { name: "Copy" }).click();
  await expect(details).toContainText("Copied.");
  expect(await page.evaluate(() => navigator.clipboard.readText())).toMatch(
    /Ticks on the tape: [\d,]+\/s/,
  );
  await details.getByRole("button", { name: "Verify prices" }).click();
  await expect(details).toContainText(/^.*\d+ of \d+ quotes match the server/s);
  await page.keyboard.press("Escape");
  await expect(details).toBeHidden();
});

test("the page survives the server's death, and says of when its prices are", async ({
  desk,
  page,
}) => {
  await desk.open();
  await desk.row(3).click();
  const symbol = await desk.symbol(3);
  await desk.server.kill();
  await expect(desk.connection).toHaveText(/^Reconnecting, attempt \d+ (now|in \d+ s)$/);
  await expect(page.locator(".lost")).toContainText("The prices shown are of");
  await expect(page.locator("main")).toHaveClass(/old/);
  await desk.server.start();
  await expect(desk.connection).toHaveText("Live");
  await expect(page.locator(".lost")).toBeHidden();
  await desk.expectPricesToChange();
  await expect(desk.title).toHaveText(symbol);
  await expect(desk.trades.nth(2)).toBeVisible();
});

test("a paused display stands still while data flow, says how far it is behind, and jumps to now", async ({
  desk,
  page,
}) => {
  await desk.open();
  await expect(desk.trades.nth(3)).toBeVisible();
  await page.keyboard.press("Space");
  await expect(page.getByTestId("behind")).toHaveText(/^[\d,]+ updates behind$/);
  await desk.frame();
  const shown = async () => [
    await desk.rows.allInnerTexts(),
    await desk.trades.allInnerTexts(),
    await page.locator(".headline .figures").innerText(),
    await page.locator(".chart .legend").innerText(),
    await page.locator(".movers").innerText(),
  ];
  const before = await shown();
  const behind = async () =>
    Number((await page.getByTestId("behind").innerText()).replace(/\D/g, ""));
  const count = await behind();
  await expect.poll(behind).toBeGreaterThan(count + 100);
  expect(await shown()).toEqual(before);

  // What scrolls into sight is of the same moment.
  const last = await desk.cell(0, "last").innerText();
  await page.getByRole("grid").evaluate((grid) => (grid.scrollTop = grid.scrollHeight));
  await desk.frame();
  await page.getByRole("grid").evaluate((grid) => (grid.scrollTop = 0));
  await desk.frame();
  expect(await desk.cell(0, "last").innerText()).toBe(last);

  await page.getByRole("button", { name: "Resume at now" }).click();
  await expect(page.getByTestId("behind")).toBeHidden();
  await desk.expectPricesToChange();
});

test.describe("a market that is published", () => {
  test.use({ flags: "--feed none" });

  test("trades that were missed are counted where they are missing", async ({ desk, page }) => {
    /** As many trades of one symbol as the server keeps for those who come back. */
    const KEPT = 1_024;
    /** Trades whose sizes are their numbers. */
    const trade = (from: number, to: number) =>
      fetch(`${desk.server.url}v1/publish`, {
        method: "POST",
        body: Array.from({ length: to - from + 1 }, (_, i) =>
          JSON.stringify({ type: "trade", symbol: "GAPS", price: "5", size: from + i }),
        ).join("\n"),
      });
    const line = await Line.to(desk.server.url);
    try {
      await trade(1, 3);
      desk.url = line.url;
      await desk.open();
      await expect(desk.trades).toHaveCount(3);

      line.cut();
      await expect(desk.connection).toHaveText(/^Reconnecting/);
      await trade(4, 3_000);
      line.mend();
      await expect(desk.connection).toHaveText("Live");
      const missed = 3_000 - 3 - KEPT;
      await expect(desk.rowOf("GAPS").locator(".age")).toHaveText(`gap ${missed}`);
      await expect(desk.trades.first()).toContainText("3,000");

      const lines = page.getByRole("table", { name: "Time and sales" });
      await lines.evaluate((element) => (element.scrollTop = element.scrollHeight));
      const texts = lines.locator(".canvas [role=row]:visible");
      await expect(texts.filter({ hasText: "missed" })).toHaveText("1,973 trades missed");
      const shown = await texts.evaluateAll((rows) =>
        rows
          .sort((a, b) => Number(a.ariaRowIndex) - Number(b.ariaRowIndex))
          .map((row) => row.children[row.classList.contains("gap") ? 4 : 2]!.textContent),
      );
      // The newest is above: first what the server still had, then the gap, then what was here before.
      expect(shown.slice(-5)).toEqual(["1,977", "1,973 trades missed", "3", "2", "1"]);
    } finally {
      line.close();
    }
  });

  test("an instrument that is not told of any more is dimmed, and says for how long", async ({
    desk,
    page,
  }) => {
    const publish = (symbol: string, price: number) =>
      fetch(`${desk.server.url}v1/publish`, {
        method: "POST",
        body: JSON.stringify({ type: "trade", symbol, price: String(price), size: 1 }),
      });
    await publish("QUIET", 5);
    await publish("LOUD", 5);
    await desk.open();
    for (let price = 6; price < 12; price++) {
      await publish("QUIET", price);
      await expect(desk.rowOf("QUIET").locator(".last")).toContainText(String(price));
    }
    let price = 6;
    await expect
      .poll(async () => {
        await publish("LOUD", price++);
        return desk.rowOf("QUIET").getAttribute("class");
      })
      .toMatch(/stale/);
    await expect(desk.rowOf("QUIET").locator(".age")).toHaveText(/^\d+ s$/);
    await expect(desk.rowOf("LOUD")).not.toHaveClass(/stale/);
    await expect(desk.rowOf("QUIET").locator(".last")).toContainText("11");

    // And then nothing at all: the server calls its publisher stale after ten seconds.
    await expect(page.getByTestId("feed")).toHaveText(/stale/);
    await expect(page.locator(".lost")).toContainText("fallen silent");
  });
});

test.describe("a recording", () => {
  test.use({ flags: "--feed ../feeds/binance-spot-60s.tape --speed 4" });

  test("a replay is called one, with its speed", async ({ desk, page }) => {
    await desk.open();
    await expect(page.getByTestId("feed")).toHaveText("REPLAY ×4");
  });
});
