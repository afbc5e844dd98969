import type { Page } from "@playwright/test";
import { expect, test } from "./page.js";

/** How many pixels of the chart have each colour, as `r,g,b`: what is drawn, whatever the document says. */
function pixels(page: Page): Promise<Record<string, number>> {
  return page.locator(".chart canvas").evaluateAll((canvases) => {
    const counts: Record<string, number> = {};
    for (const canvas of canvases as HTMLCanvasElement[]) {
      const context = canvas.getContext("2d");
      if (!context || canvas.width === 0 || canvas.height === 0) continue;
      const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
      for (let i = 0; i < data.length; i += 4) {
        if (data[i + 3] !== 255) continue;
        const key = `${data[i]},${data[i + 1]},${data[i + 2]}`;
        counts[key] = (counts[key] ?? 0) + 1;
      }
    }
    return counts;
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

/** The chart is drawn in the colours that the page has now: its ground, and its candles. */
async function expectColoursOfThePage(page: Page): Promise<void> {
  const [ground, up, down] = [
    await colour(page, "--panel"),
    await colour(page, "--up"),
    await colour(page, "--down"),
  ];
  await expect
    .poll(async () => {
      const counts = await pixels(page);
      const [most] = Object.entries(counts).sort((a, b) => b[1] - a[1])[0]!;
      return [most, (counts[up] ?? 0) + (counts[down] ?? 0) > 20];
    })
    .toEqual([ground, true]);
}

test("the chart has the colours of the theme and palette that are chosen, at once", async ({
  desk,
  page,
}) => {
  await desk.open();
  await expect
    .poll(async () => Number(await page.locator(".chart").getAttribute("data-bars")))
    .toBeGreaterThan(3);
  await expectColoursOfThePage(page);
  for (let i = 0; i < 3; i++) {
    await page.keyboard.press("t");
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
  await page.keyboard.press("Space");
  const bars = await page.locator(".chart").getAttribute("data-bars");
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    await expectColoursOfThePage(page);
  }
  await page.emulateMedia({ contrast: "more" });
  const text = await colour(page, "--dim");
  await expect.poll(async () => (await pixels(page))[text] ?? 0).toBeGreaterThan(20);
  expect(await page.locator(".chart").getAttribute("data-bars")).toBe(bars);
});
