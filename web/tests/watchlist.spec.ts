import { expect, test } from "./page.js";

test("the page shows the whole universe live, and says what it is", async ({
  desk,
  page,
}, info) => {
  await desk.open();
  await expect(page.getByTestId("feed")).toHaveText("SIMULATED");
  await expect(page.getByTestId("count")).toHaveText("60 symbols");
  await expect(page.getByRole("grid")).toHaveAttribute("aria-rowcount", "61");
  await desk.expectPricesToChange();
  const seen = new Set(await desk.symbols());
  await page.getByRole("grid").evaluate((grid) => (grid.scrollTop = grid.scrollHeight));
  await desk.frame();
  for (const symbol of await desk.symbols()) seen.add(symbol);
  expect(seen.size).toBe(60);
  await page.screenshot({ path: info.outputPath("watchlist.png") });
});

test("a click on a row opens its symbol everywhere, and the way back is the browser's", async ({
  desk,
  page,
}) => {
  await desk.open();
  const first = await desk.symbol(0);
  const symbol = await desk.symbol(3);
  await expect(desk.title).toHaveText(first);
  await desk.row(3).click();
  await expect(desk.title).toHaveText(symbol);
  await expect(page).toHaveTitle(`${symbol} · Tickcast`);
  await expect(page.getByRole("row", { selected: true })).toContainText(symbol);
  expect(new URL(page.url()).hash).toBe(`#${encodeURIComponent(symbol)}`);
  await expect(desk.trades.first()).toBeVisible();
  await page.goBack();
  await expect(desk.title).toHaveText(first);
  await page.goForward();
  await page.reload();
  await expect(desk.title).toHaveText(symbol);
});

test("the list is walked through and a symbol opened with the keyboard alone", async ({
  desk,
  page,
}) => {
  await desk.open();
  await page.getByRole("grid").focus();
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("j");
  await page.keyboard.press("k");
  await page.keyboard.press("Enter");
  await expect(desk.title).toHaveText(await desk.symbol(1));
  await page.keyboard.press("End");
  await expect(desk.row(59)).toBeVisible();
  // What is read aloud stands as it was when asked for: the symbol may not have traded yet.
  await expect(async () => {
    await page.keyboard.press("r");
    const spoken = page.locator(".watchlist [role=status]");
    await expect(spoken).toHaveText(/: last [\d,.]+, (up|down) /, { timeout: 1_000 });
  }).toPass();
});

test("pressing a head sorts, and the order is kept in the address", async ({ desk, page }) => {
  await desk.open();
  const percents = async () => {
    const texts = await desk.rows.evaluateAll((rows) =>
      rows
        .sort((a, b) => Number(a.ariaRowIndex) - Number(b.ariaRowIndex))
        .map((row) => row.querySelector(".percent")?.textContent ?? ""),
    );
    return texts.map((text) => Number(text.replace("−", "-").replace(/[+%]/g, "")));
  };
  const head = page.getByRole("columnheader", { name: "Chg %" });
  await head.getByRole("button").click();
  await expect(head).toHaveAttribute("aria-sort", "descending");
  // Rows move once a second: between two times a price may have moved on.
  await expect
    .poll(async () => {
      const shown = await percents();
      return shown.every((value, i) => i === 0 || value <= shown[i - 1]! + 0.05);
    })
    .toBe(true);
  expect((await percents())[0]).toBeGreaterThan((await percents()).at(-1)!);
  expect(new URL(page.url()).searchParams.get("sort")).toBe("-percent");
  await page.reload();
  await expect(head).toHaveAttribute("aria-sort", "descending");
  await head.getByRole("button").click();
  await expect(head).toHaveAttribute("aria-sort", "ascending");
  await head.getByRole("button").click();
  await expect(head).toHaveAttribute("aria-sort", "none");
});

test("what is gone from the page is gone from its address", async ({ desk, page }) => {
  await desk.open();
  await page.keyboard.press("h");
  await expect(page).toHaveURL(/[?]view=heatmap#/);
  await page.keyboard.press("w");
  await page.keyboard.press("3");
  await page.keyboard.press("1");
  await page.getByTestId("sector").selectOption("energy");
  await page.getByTestId("sector").selectOption("");
  expect(new URL(page.url()).search).toBe("");
  await page.reload();
  await expect(page.getByRole("grid")).toBeVisible();
  await expect(page.getByRole("button", { name: "1 second" })).toHaveAttribute(
    "aria-pressed",
    "true",
  );
  await expect(page.getByTestId("count")).toHaveText("60 symbols");
});

test("columns are chosen, moved and made wider, and stay so", async ({ desk, page }) => {
  await desk.open();
  const heads = () =>
    page
      .getByRole("columnheader")
      .evaluateAll((all) =>
        all.filter((head) => head.closest(".grid")).map((head) => head.className),
      );
  await page.keyboard.press("c");
  const dialog = page.getByRole("dialog", { name: "Columns" });
  await dialog.getByLabel("Sector", { exact: true }).check();
  await dialog.getByLabel("Trend", { exact: true }).uncheck();
  await dialog.getByRole("button", { name: "Move Last to the left" }).click();
  await page.keyboard.press("Escape");
  await expect(dialog).toBeHidden();
  const chosen = await heads();
  expect(chosen.slice(0, 3)).toEqual(["symbol", "last", "name"]);
  expect(chosen).not.toContain("spark");
  expect(chosen.at(-1)).toBe("sector");

  const width = async () => (await desk.cell(0, "bid").boundingBox())!.width;
  const before = await width();
  const edge = page.locator(".head .bid .edge");
  await edge.scrollIntoViewIfNeeded();
  const box = (await edge.boundingBox())!;
  await page.mouse.move(box.x + 3, box.y + 5);
  await page.mouse.down();
  await page.mouse.move(box.x + 43, box.y + 5);
  await page.mouse.up();
  await expect.poll(width).toBe(before + 40);
  await page.reload();
  await expect(desk.rows.first()).toBeVisible();
  expect(await heads()).toEqual(chosen);
  await expect.poll(width).toBe(before + 40);
  const percent = async () => (await desk.cell(0, "percent").boundingBox())!.width;
  const was = await percent();
  await page.getByRole("columnheader", { name: "Chg %" }).getByRole("button").focus();
  await page.keyboard.press("Shift+ArrowRight");
  await expect.poll(percent).toBe(was + 8);
});

test("columns are moved by dragging their heads, or with the keyboard, and stay so", async ({
  desk,
  page,
}) => {
  await desk.open();
  const heads = page.getByRole("grid").getByRole("columnheader");
  const keys = () =>
    heads.evaluateAll((all) => all.map(({ classList }) => classList.item(0)).join(" "));
  const head = (name: string) => heads.filter({ hasText: new RegExp(`^\\s*${name}`) });
  expect(await keys()).toMatch(/^symbol name last percent spark bid/);
  const middle = async (name: string) => {
    const { x, y, width, height } = (await head(name).boundingBox())!;
    return [x + width / 2, y + height / 2] as const;
  };
  const [x, y] = await middle("Chg %");
  await page.mouse.move(x, y);
  await page.mouse.down();
  const [to] = await middle("Name");
  await page.mouse.move(to - 10, y, { steps: 4 });
  await expect(head("Chg %")).toHaveClass(/dragged/);
  await expect(page.locator(".head .drop")).toBeVisible();
  await page.mouse.up();
  await expect.poll(keys).toMatch(/^symbol percent name last spark bid/);
  await expect(page.locator(".head .drop")).toBeHidden();
  // It was not pressed.
  await expect(head("Chg %")).toHaveAttribute("aria-sort", "none");
  await expect(desk.cell(0, "percent")).toHaveAttribute("aria-colindex", "2");

  // Escape leaves it where it was.
  const [lastX] = await middle("Last");
  await page.mouse.move(lastX, y);
  await page.mouse.down();
  await page.mouse.move(lastX + 150, y, { steps: 4 });
  await page.keyboard.press("Escape");
  await page.mouse.up();
  expect(await keys()).toMatch(/^symbol percent name last spark bid/);

  await head("Trend").focus();
  await page.keyboard.press("Alt+Shift+ArrowLeft");
  await page.keyboard.press("Alt+Shift+ArrowLeft");
  await expect.poll(keys).toMatch(/^symbol percent spark name last bid/);
  await expect(head("Trend")).toBeFocused();
  await expect(page.locator(".watchlist [role=status]")).toHaveText(/^Trend is column 3 of \d+$/);
  await page.reload();
  await expect(desk.rows.first()).toBeVisible();
  expect(await keys()).toMatch(/^symbol percent spark name last bid/);
});

test("a sector is shown alone, and so is a list of one's own, which the address shares", async ({
  desk,
  page,
  browser,
}) => {
  await desk.open();
  const count = page.getByTestId("count");
  await page.getByTestId("sector").selectOption("technology");
  await expect(count).toHaveText(/^\d+ of 60$/);
  await page.getByTestId("sector").selectOption("");
  await expect(count).toHaveText("60 symbols");

  const [first, second, third] = await desk.symbols();
  await page.getByRole("button", { name: "Lists…" }).click();
  const dialog = page.getByRole("dialog", { name: "Lists" });
  await dialog.getByLabel("Name").fill("Mine");
  await dialog.getByLabel(/^Symbols/).fill(`${third}\n${first!.toLowerCase()}`);
  await dialog.getByRole("button", { name: "Keep and show" }).click();
  await expect(dialog.getByRole("status")).toHaveText("Kept, with 2 symbols.");
  await page.keyboard.press("Escape");
  await expect.poll(() => desk.symbols()).toEqual([third, first]);

  // By search and key: onto the list, and off it again.
  await page.keyboard.press("/");
  await page.keyboard.type(second!);
  await page.keyboard.press("Shift+Enter");
  await expect.poll(() => desk.symbols()).toEqual([third, first, second]);
  await page.keyboard.press("Escape");
  await page.getByRole("grid").focus();
  await page.keyboard.press("Home");
  await page.keyboard.press("Delete");
  await expect.poll(() => desk.symbols()).toEqual([first, second]);

  await page.reload();
  await expect.poll(() => desk.symbols()).toEqual([first, second]);
  const other = await browser.newPage();
  await other.goto(page.url());
  await expect(other.getByTestId("list").locator("option:checked")).toHaveText("Mine (2)");
  await expect(other.getByTestId("count")).toHaveText("2 of 60");
  await other.close();

  await page.getByTestId("list").selectOption("");
  await expect(count).toHaveText("60 symbols");
});

test("small lines show the last hour, from the server's bars and what comes", async ({ desk }) => {
  await desk.open();
  await expect.poll(() => desk.trends()).toBeGreaterThan(20);
});

test.describe("of a market that hardly moves", () => {
  test.use({ flags: "--symbols 60 --rate 20 --seed 7" });

  test("every row has its small line, also where no price changes", async ({ desk }) => {
    await desk.open();
    await expect.poll(async () => (await desk.rows.count()) - (await desk.trends())).toBe(0);
  });
});

test("cells flash when their price changes, unless that is turned off", async ({ desk, page }) => {
  await desk.open();
  const flashing = page.locator(".grid .flash-up, .grid .flash-down");
  await expect.poll(() => flashing.count()).toBeGreaterThan(0);
  await page.emulateMedia({ reducedMotion: "reduce" });
  await expect
    .poll(() => page.locator(".grid .still-up, .grid .still-down").count())
    .toBeGreaterThan(0);
  await expect(flashing).toHaveCount(0);
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("Cells flash when their price changes").uncheck();
  await page.keyboard.press("Escape");
  const marks = page.locator(".grid :is(.still-up, .still-down, .flash-up, .flash-down)");
  await expect(marks).toHaveCount(0);
  await desk.expectPricesToChange();
  await expect(marks).toHaveCount(0);
});
