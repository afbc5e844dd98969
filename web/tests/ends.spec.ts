import { expect, test } from "./page.js";

/** Places where the page came to a dead end. */

test("the keyboard is in the list after a search, a view and a pause", async ({ desk, page }) => {
  await desk.open();
  const grid = page.getByRole("grid");
  const symbol = await desk.symbol(5);
  await page.keyboard.press("/");
  await page.keyboard.type(symbol);
  await page.keyboard.press("Enter");
  await expect(desk.title).toHaveText(symbol);
  await expect(grid).toBeFocused();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await expect(desk.title).toHaveText(await desk.symbol(6));

  // Left for nothing, it is where it was.
  const columns = page.getByRole("button", { name: "Columns…" });
  await columns.focus();
  await page.keyboard.press("Control+k");
  await page.keyboard.press("Escape");
  await expect(columns).toBeFocused();
  await page.evaluate(() => (document.activeElement as HTMLElement).blur());
  await page.keyboard.press("/");
  await page.keyboard.press("Escape");
  await expect(grid).toBeFocused();

  await page.keyboard.press("h");
  await expect(grid).toBeHidden();
  const tile = page.locator(".tile:focus");
  await expect(tile).toHaveCount(1);
  await page.keyboard.press("w");
  await expect(grid).toBeFocused();
  await page.keyboard.press("Space");
  await page.getByRole("button", { name: "Resume at now" }).press("Enter");
  await expect(grid).toBeFocused();
  await page.keyboard.press("i");
  await expect(page.getByRole("region", { name: "Details of the connection" })).toBeFocused();
  await page.keyboard.press("Escape");
  await expect(page.locator(".badges")).toBeFocused();
});

test("what puts the open symbol on a list says on which, and whether it is", async ({
  desk,
  page,
}) => {
  await desk.open();
  const [symbol, other] = await desk.symbols();
  await page.getByRole("button", { name: "+ Favourites" }).click();
  const listed = page.getByRole("button", { name: "✓ Favourites" });
  await expect(listed).toHaveAttribute("aria-pressed", "true");
  await expect(page.locator(".headline [role=status]")).toHaveText(`${symbol} is on Favourites.`);
  await expect(page.getByTestId("list").locator("option").nth(1)).toHaveText("Favourites (1)");
  await page.keyboard.press("/");
  await page.keyboard.type(other!);
  await page.keyboard.press("Shift+Enter");
  await expect(page.getByRole("option", { name: other! }).first()).toContainText("on Favourites");
  await page.keyboard.press("Escape");
  await page.reload();
  await expect(listed).toBeVisible();
  await page.getByTestId("list").selectOption("Favourites");
  await expect.poll(() => desk.symbols()).toEqual([symbol, other]);
  await listed.click();
  await expect.poll(() => desk.symbols()).toEqual([other]);
});

test("a column is sorted by a press anywhere on its head but its edge", async ({ desk, page }) => {
  await desk.open();
  const heads = page.getByRole("grid").getByRole("columnheader");
  for (const head of await heads.all()) {
    if ((await head.getByRole("button").count()) === 0) continue;
    const missed = await head.evaluate((head) => {
      const { left, width, top, height } = head.getBoundingClientRect();
      const missed: string[] = [];
      for (let x = 1; x < width - 8; x += 4)
        for (const y of [1, height / 2, height - 2])
          if (!document.elementFromPoint(left + x, top + y)?.closest("button"))
            missed.push(`${x},${y}`);
      return missed;
    });
    expect(missed, await head.innerText()).toEqual([]);
  }
});

test.describe("of a market that hardly moves", () => {
  // It is asked as much of as one of many ticks a second, and leaves the processor to the tests beside it.
  test.use({ flags: "--symbols 60 --rate 20 --seed 7" });

  test("the first minute of a young market costs few requests", async ({ desk, page }) => {
    const asked: string[] = [];
    page.on("request", (request) => asked.push(new URL(request.url()).pathname));
    await desk.open();
    const began = await page.evaluate(() => performance.now());
    await expect
      .poll(() => page.evaluate(() => performance.now()), { timeout: 90_000, intervals: [1_000] })
      .toBeGreaterThan(began + 60_000);
    const count = asked.filter((path) => path.startsWith("/v1/")).length;
    expect(count).toBeLessThanOrEqual(70);
    // And it asks: for the history of each row in sight, the chart's and the universe.
    expect(count).toBeGreaterThan(await desk.rows.count());
    expect(await desk.trends()).toBeGreaterThan(20);
  });
});

test.describe("without a feed", () => {
  test.use({ flags: "--feed none" });

  test("the page waits for a publisher, says how to publish, and shows what comes", async ({
    desk,
    page,
  }, info) => {
    await page.goto(desk.url);
    await expect(page.getByTestId("feed")).toHaveText("Waiting for a publisher");
    await expect(page.locator(".lost")).toBeHidden();
    await expect(page.locator(".grid .empty code")).toContainText(`${desk.url}v1/publish`);
    expect(await desk.violations()).toEqual([]);
    await page.screenshot({ path: info.outputPath("waiting.png") });

    const trade = { type: "trade", size: 100, side: "buy" };
    await desk.server.publish([
      { ...trade, symbol: "UP", price: 10 },
      { ...trade, symbol: "UP", price: 11 },
      { ...trade, symbol: "DOWN", price: 10 },
      { ...trade, symbol: "DOWN", price: 9.5 },
    ]);
    await expect(page.getByTestId("feed")).toHaveText("LIVE publisher");
    await expect(desk.rowOf("UP").locator(".percent")).toHaveText("+10.00%");
    await expect(page.getByRole("columnheader", { name: "Chg % open" })).toBeVisible();
    await expect(page.locator(".movers h3")).toContainText("since open");
    await expect(page.locator(".movers .line").first()).toContainText("+10.00%");
    await expect(page.locator(".headline .price")).toContainText("since open");
    await page.keyboard.press("h");
    await expect(page.locator('.tile[data-symbol="DOWN"]')).toContainText("−5.00%");
    await expect(page.locator(".legend-steps")).toContainText("since open");
    await page.screenshot({ path: info.outputPath("since-open.png") });

    // One whose previous close is known: what is since when is told apart.
    await desk.server.publish([
      { type: "instrument", symbol: "OLD", previous_close: 20 },
      { ...trade, symbol: "OLD", price: 21 },
    ]);
    await page.keyboard.press("w");
    await expect(page.getByRole("columnheader", { name: "Chg %*" })).toBeVisible();
    const star = (symbol: string) =>
      desk
        .rowOf(symbol)
        .locator(".percent")
        .evaluate((cell) => getComputedStyle(cell, "::after").content);
    await expect.poll(() => star("UP")).toBe('"*"');
    expect(await star("OLD")).toBe("none");
  });

  test("no two labels of the price axis read the same", async ({ desk, page }) => {
    await page.addInitScript(() => {
      const drawn = new Map<HTMLCanvasElement | OffscreenCanvas, Map<string, number>>();
      const { fillText, clearRect } = CanvasRenderingContext2D.prototype;
      CanvasRenderingContext2D.prototype.fillText = function (text, x, y, ...rest) {
        const labels = drawn.get(this.canvas) ?? new Map<string, number>();
        drawn.set(this.canvas, labels.set(`${Math.round(this.getTransform().f + y)}`, 0));
        labels.delete(`${Math.round(this.getTransform().f + y)}`);
        labels.set(`${text}@${Math.round(y)}`, performance.now());
        return fillText.call(this, text, x, y, ...rest);
      };
      CanvasRenderingContext2D.prototype.clearRect = function (...area) {
        drawn.get(this.canvas)?.clear();
        return clearRect.apply(this, area);
      };
      Object.assign(globalThis, { drawn });
    });
    const trade = { type: "trade", symbol: "FLAT", size: 1 };
    await desk.server.publish([
      { type: "instrument", symbol: "FLAT", tick_size: 0.01 },
      { ...trade, price: "100.00" },
      { ...trade, price: "100.01" },
    ]);
    await desk.open();
    await expect
      .poll(async () => Number(await page.locator(".chart").getAttribute("data-bars")))
      .toBeGreaterThan(0);
    const labels = () =>
      page.evaluate(() => {
        const { drawn } = globalThis as unknown as {
          drawn: Map<HTMLCanvasElement, Map<string, number>>;
        };
        return (
          [...drawn]
            .flatMap(([canvas, texts]) =>
              canvas.isConnected
                ? [
                    [...texts.keys()]
                      .map((key) => key.split("@")[0]!)
                      .filter((text) => /^[\d,]+\.\d+$/.test(text)),
                  ]
                : [],
            )
            .sort((a, b) => b.length - a.length)[0] ?? []
        );
      });
    await expect.poll(async () => (await labels()).length).toBeGreaterThan(1);
    const shown = await labels();
    expect(new Set(shown).size, shown.join(" ")).toBe(shown.length);
  });
});

test.describe("a scenario", () => {
  test.use({ flags: "--scenario flash-crash" });

  test("has its bar, with its name and what the market is at", async ({ desk, page }, info) => {
    await desk.open();
    const bar = page.getByTestId("replay");
    await expect(page.getByTestId("scenario")).toHaveText(/Scenario\s*flash-crash\s*[\w-]+/);
    await expect(page.getByRole("slider", { name: "Place in the scenario" })).toBeEnabled();
    await page.screenshot({ path: info.outputPath("scenario.png") });
    await bar.getByRole("button", { name: "Pause the market" }).click();
    await expect(page.getByTestId("replay-state")).toHaveText("Simulated, paused");
    await expect(page.getByTestId("feed")).toHaveText("SIMULATED paused");
    await expect(page.getByTestId("scenario")).toContainText("flash-crash");
    expect(await desk.violations(".replay")).toEqual([]);
    await page.setViewportSize({ width: 360, height: 780 });
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(360);
  });
});

test.describe("with a finger", () => {
  test.use({ hasTouch: true, isMobile: true, viewport: { width: 390, height: 844 } });

  test("rows are 44 pixels high, and nothing to press is under 24", async ({
    desk,
    page,
  }, info) => {
    await desk.open();
    expect((await desk.row(0).boundingBox())!.height).toBe(44);
    const small = () =>
      page.evaluate(() =>
        [
          ...document.querySelectorAll<HTMLElement>(
            "button, a, select, input, [role=option], .grid .canvas [role=row], .sector, summary",
          ),
        ]
          .filter(
            (target) =>
              target.checkVisibility({ visibilityProperty: true }) &&
              !target.closest("[hidden], .spoken, [aria-hidden=true]"),
          )
          .map((target) => {
            const box = (target.closest("label") ?? target).getBoundingClientRect();
            return {
              name: (target.ariaLabel ?? target.textContent ?? target.className)
                .trim()
                .slice(0, 30),
              width: box.width,
              height: box.height,
            };
          })
          .filter(({ width, height }) => width > 0 && (height < 23.5 || width < 23.5)),
      );
    const panels = page.getByRole("navigation", { name: "Panels" });
    for (const name of ["List", "Chart", "Trades", "Movers", "Heatmap"]) {
      await panels.getByRole("button", { name }).tap();
      await desk.frame();
      expect(await small(), name).toEqual([]);
      expect(await page.evaluate(() => document.documentElement.scrollWidth), name).toBe(390);
      await page.screenshot({ path: info.outputPath(`${name}.png`) });
    }
    expect(
      (await page.locator(".panels button").first().boundingBox())!.height,
    ).toBeGreaterThanOrEqual(44);
    for (const open of ["Settings", "Keys and help"]) {
      await page.getByRole("button", { name: open }).tap();
      await expect(page.getByRole("dialog")).toBeVisible();
      expect(await small(), open).toEqual([]);
      await page.keyboard.press("Escape");
    }
    // The open one is in sight below the head, which is higher, too.
    await panels.getByRole("button", { name: "List" }).tap();
    await desk.row(3).tap();
    await expect(desk.title).toHaveText(/\w/);
  });
});
