import { fileURLToPath } from "node:url";
import { expect, test } from "./page.js";

/** A minute of a real exchange. */
const recording = fileURLToPath(new URL("../../feeds/binance-spot-60s.tape", import.meta.url));

test.describe("a recording", () => {
  test.use({ flags: `--feed ${recording} --loop` });

  test("is paused, stepped, sped up and wound from the page that shows it", async ({
    desk,
    page,
  }, info) => {
    await desk.open();
    const bar = page.getByTestId("replay");
    const state = page.getByTestId("replay-state");
    const time = page.getByTestId("replay-time");
    const place = page.getByRole("slider", { name: "Place in the recording" });
    await expect(state).toHaveText("Replay ×1, in a loop");
    await expect(time).toHaveText(/^23:5[45]:\d\d\.\d$/);
    await page.screenshot({ path: info.outputPath("replay.png") });

    await bar.getByRole("button", { name: "Pause the market" }).click();
    await expect(state).toHaveText("Replay ×1, paused, in a loop");
    await expect(page.getByTestId("feed")).toHaveText(/paused$/);
    await expect(bar).toHaveAttribute("aria-busy", "false");
    const prices = async () => [await time.innerText(), await desk.rows.allInnerTexts()];
    const before = await prices();
    await page.waitForResponse("**/v1/replay"); // it is looked at again, and nothing has moved
    expect(await prices()).toEqual(before);

    await bar.getByRole("button", { name: "+1 s" }).click();
    await expect(time).not.toHaveText(before[0] as string);
    await expect(state).toContainText("paused");

    await place.focus();
    await page.keyboard.press("Home");
    await expect(time).toHaveText("23:54:14.0");
    await expect(place).toHaveAttribute("aria-valuetext", "2024-08-08 23:54:14.0 UTC");
    for (let i = 0; i < 4; i++) await page.keyboard.press("ArrowRight");
    await expect(time).toHaveText(/^23:54:1[56]\.\d$/);
    await expect(bar).toHaveAttribute("aria-busy", "false");
    await expect(state).toContainText("paused");

    await bar.getByLabel("Speed").selectOption("10");
    await expect(state).toContainText("×10");
    await expect(page.getByTestId("feed")).toContainText("×10");
    await bar.getByRole("button", { name: "Play the market" }).click();
    await expect(state).toHaveText("Replay ×10, in a loop");
    await desk.expectPricesToChange();
    expect(await desk.violations(".replay")).toEqual([]);
  });

  test("fits a phone with its remote control", async ({ desk, page }) => {
    await page.setViewportSize({ width: 360, height: 780 });
    await desk.open();
    await expect(page.getByTestId("replay")).toBeInViewport({ ratio: 1 });
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(360);
  });
});

test.describe("a recording that may not be controlled", () => {
  test.use({ flags: `--feed ${recording} --loop --control off` });

  test("has no remote control", async ({ desk, page }) => {
    const looked = page.waitForResponse("**/v1/replay");
    await desk.open();
    await looked;
    await expect(page.getByTestId("feed")).toHaveText("REPLAY ×1");
    await expect(page.getByTestId("replay")).toBeHidden();
  });
});
