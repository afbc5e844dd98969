import type { Page } from "@playwright/test";
import { expect, OFTEN, test } from "./page.js";

/** How many pixels of the chart have each colour, as `r,g,b`: what is drawn, whatever the document says. */
function pixels(page: Page): Promise<Record<string, number>> {
  return page.locator(".chart canvas").evaluateAll((canvases) => {
    const counts = new Map<number, number>();
    for (const canvas of canvases as HTMLCanvasElement[]) {
      const context = canvas.getContext("2d");
      if (!context || canvas.width === 0 || canvas.height === 0) continue;
      const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
      // A pixel is a word of alpha, blue, green and red: a text for each of half a million would take a second.
      for (const word of new Uint32Array(data.buffer))
        if (word >>> 24 === 255) counts.set(word, (counts.get(word) ?? 0) + 1);
    }
    const named = ([word, count]: [number, number]) => [
      `${word & 255},${(word >> 8) & 255},${(word >> 16) & 255}`,
      count,
    ];
    return Object.fromEntries([...counts].map(named)) as Record<string, number>;
  });
}

/** The colour of a property of the style sheets, as {@link pixels} names it. */
function colour(page: Page, property: string): Promise<string> {
  return page.evaluate((property) => {
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = `var(${property})`;
    const [r, g, b] = getComputedStyle(probe).color.match(/\d+/g)!;
    probe.remove();
    return `${r},${g},${b}`;
  }, property);
}

/** The chart is drawn in the colours that the page has then: its ground, and its candles. */
async function expectColoursOfThePage(page: Page): Promise<void> {
  await expect
    .poll(async () => {
      // A page is told of its system's theme a frame after the system has it.
      const [ground, up, down] = [
        await colour(page, "--panel"),
        await colour(page, "--up"),
        await colour(page, "--down"),
      ];
      const counts = await pixels(page);
      const [most] = Object.entries(counts).sort((a, b) => b[1] - a[1])[0]!;
      return [most === ground, (counts[up] ?? 0) + (counts[down] ?? 0) > 20];
    }, OFTEN)
    .toEqual([true, true]);
}

/** The chart has its past, too. */
async function expectBars(page: Page): Promise<void> {
  await expect
    .poll(async () => Number(await page.locator(".chart").getAttribute("data-bars")))
    .toBeGreaterThan(3);
}

test("the chart has the colours of the theme and palette that are chosen, at once", async ({
  desk,
  page,
}) => {
  await desk.open();
  await expectBars(page);
  const root = page.locator("html");
  await expect(root).toHaveAttribute("data-theme", "dark");
  await expectColoursOfThePage(page);
  // Chosen, chosen, and the system's again.
  for (const theme of ["dark", "light", "dark"]) {
    await page.keyboard.press("t");
    await expect(root).toHaveAttribute("data-theme", theme);
    await expectColoursOfThePage(page);
  }
  const settings = page.getByRole("dialog", { name: "Settings" });
  for (const palette of ["Blue and orange", "Red is up", "No colours", "Teal and red"]) {
    await page.getByRole("button", { name: "Settings" }).click();
    await settings.getByLabel(palette).check();
    await page.keyboard.press("Escape");
    await expectColoursOfThePage(page);
  }
  // The system's, in both ways; and while the display is paused.
  await page.evaluate(() => localStorage.clear());
  await page.reload();
  await desk.open();
  await expectBars(page);
  await page.keyboard.press("Space");
  const bars = await page.locator(".chart").getAttribute("data-bars");
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    await expect(root).toHaveAttribute("data-theme", colorScheme);
    await expectColoursOfThePage(page);
  }
  await page.emulateMedia({ contrast: "more" });
  const text = await colour(page, "--dim");
  await expect.poll(async () => (await pixels(page))[text] ?? 0).toBeGreaterThan(20);
  expect(await page.locator(".chart").getAttribute("data-bars")).toBe(bars);
});
