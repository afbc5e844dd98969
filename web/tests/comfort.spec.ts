import { expect, test } from "./page.js";

// What is looked at here does not depend on how fast prices come, and axe shares its thread with what draws them.
test.use({ flags: "--symbols 60 --rate 200 --seed 7" });

for (const colorScheme of ["dark", "light"] as const)
  test(`the ${colorScheme} page meets WCAG AA in every state`, async ({ desk, page }, info) => {
    // A cell in the middle of a flash has a colour of no theme.
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await desk.open();
    await expect(desk.trades.nth(2)).toBeVisible();
    await page.screenshot({ path: info.outputPath(`${colorScheme}.png`) });
    const check = async (state: string, within?: string) =>
      expect(await desk.violations(within), state).toEqual([]);
    await check("live");
    await desk.connection.click();
    await check("details");
    await page.keyboard.press("Escape");
    await page.keyboard.press("/");
    await page.keyboard.type("a");
    await expect(page.getByRole("option").first()).toBeVisible();
    await check("search");
    await page.keyboard.press("Escape");
    for (const [open, name] of [
      ["Keys and help", "Keys"],
      ["Settings", "Settings"],
      ["Columns…", "Columns"],
      ["Lists…", "Lists"],
    ] as const) {
      await page.getByRole("button", { name: open }).click();
      await expect(page.getByRole("dialog", { name })).toBeVisible();
      // The page behind them is the one that was looked at as it was live, and with the first of them upon it.
      await check(name, name === "Keys" ? undefined : "dialog");
      await page.keyboard.press("Escape");
      await expect(page.getByRole("dialog")).toBeHidden();
    }
    await page.keyboard.press("h");
    await expect.poll(() => page.locator(".tile").count()).toBeGreaterThan(10);
    await check("heatmap");
    await page.getByRole("button", { name: "As a table" }).click();
    await check("heatmap as a table");
    await page.keyboard.press("w");
    await expect(desk.rows.first()).toBeVisible();
    await page.keyboard.press("Space");
    await expect(page.getByTestId("behind")).toBeVisible();
    await check("paused");
    await page.keyboard.press("Space");
    await desk.server.kill();
    await expect(page.locator(".lost")).toBeVisible();
    await check("lost");
  });

for (const palette of [
  "Blue and orange (colour-blind safe)",
  "Red is up, green is down",
  "No colours: signs and arrows",
])
  test(`colours “${palette}” can be read in both themes`, async ({ desk, page }) => {
    await page.emulateMedia({ reducedMotion: "reduce" });
    await desk.open();
    const settings = page.getByRole("dialog", { name: "Settings" });
    for (const theme of ["Light", "Dark"]) {
      await page.getByRole("button", { name: "Settings" }).click();
      await settings.getByLabel(palette).check();
      await settings.getByLabel(theme, { exact: true }).check();
      await page.keyboard.press("Escape");
      await expect(page.locator("html")).toHaveAttribute("data-theme", theme.toLowerCase());
      await page.keyboard.press("h");
      await expect.poll(() => page.locator(".tile").count()).toBeGreaterThan(10);
      expect(await desk.violations()).toEqual([]);
      await page.keyboard.press("w");
    }
    expect(await desk.violations()).toEqual([]);
  });

test("keys change theme and density, help lists them, and letters can be turned off", async ({
  desk,
  page,
}) => {
  await desk.open();
  const root = page.locator("html");
  await expect(root).toHaveAttribute("data-theme", "dark");
  await page.keyboard.press("t");
  await page.keyboard.press("t");
  await expect(root).toHaveAttribute("data-theme", "light");
  await expect(root).toHaveAttribute("data-density", "compact");
  const height = async () => (await desk.row(0).boundingBox())!.height;
  expect(await height()).toBe(20);
  await page.keyboard.press("d");
  await expect.poll(height).toBe(16);
  await page.reload();
  await expect(root).toHaveAttribute("data-theme", "light");
  await expect(root).toHaveAttribute("data-density", "ultra");

  await page.keyboard.press("?");
  const help = page.getByRole("dialog", { name: "Keys" });
  await expect(help).toContainText("Pause the display, or resume at now");
  await help.getByRole("checkbox").uncheck();
  await page.keyboard.press("Escape");
  await page.keyboard.press("d");
  await page.keyboard.press("/");
  await expect(root).toHaveAttribute("data-density", "ultra");
  await expect(page.getByRole("combobox", { name: /Search/ })).not.toBeFocused();
  await page.keyboard.press("Control+k");
  await expect(page.getByRole("combobox", { name: /Search/ })).toBeFocused();
});

test("on a phone one panel is shown at a time, and nothing sticks out", async ({
  desk,
  page,
}, info) => {
  await page.setViewportSize({ width: 360, height: 780 });
  await desk.open();
  await expect(desk.connection).toBeInViewport({ ratio: 1 });
  await expect(page.getByTestId("feed")).toBeInViewport({ ratio: 1 });
  await page.screenshot({ path: info.outputPath("phone.png") });
  const width = () => page.evaluate(() => document.documentElement.scrollWidth);
  expect(await width()).toBe(360);
  expect(await desk.violations()).toEqual([]);

  const symbol = await desk.symbol(4);
  await desk.row(4).click();
  await expect(desk.title).toHaveText(symbol);
  await expect(page.locator(".chart canvas").first()).toBeInViewport();
  await page.screenshot({ path: info.outputPath("phone-chart.png") });
  const panels = page.getByRole("navigation", { name: "Panels" });
  for (const [name, panel] of [
    ["Trades", ".tape"],
    ["Heatmap", ".heatmap"],
    ["Movers", ".movers"],
    ["List", ".watchlist"],
  ] as const) {
    await panels.getByRole("button", { name }).click();
    await expect(page.locator(panel)).toBeInViewport();
    expect(await width()).toBe(360);
    expect(await desk.violations(), name).toEqual([]);
  }
});

test("at a zoom of 200 % everything is still there", async ({ desk, page }, info) => {
  await page.setViewportSize({ width: 640, height: 400 });
  await desk.open();
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(640);
  await expect(desk.connection).toBeInViewport({ ratio: 1 });
  await expect(desk.row(5)).toBeInViewport();
  await page
    .getByRole("navigation", { name: "Panels" })
    .getByRole("button", { name: "Chart" })
    .click();
  await expect(page.locator(".chart canvas").first()).toBeInViewport();
  await page.keyboard.press("?");
  await expect(page.getByRole("dialog")).toBeInViewport();
  await page.screenshot({ path: info.outputPath("zoomed.png") });
});
