import type { Page } from "@playwright/test";
import { expect, test } from "./page.js";

const say = async (page: Page, name: string, text: string) => {
  await page.getByLabel("Your name").fill(name);
  await page.getByLabel("Message to the desk").fill(text);
  await page.getByRole("button", { name: "Send" }).click();
};
const said = (page: Page) => page.getByRole("log").locator("p:not(.note)");

test("what one says at the desk all others read, in other tabs and other browsers, also those who come later", async ({
  desk,
  page,
  browser,
}, info) => {
  await desk.open();
  const elsewhere = await (await browser.newContext()).newPage();
  await elsewhere.goto(desk.url);
  await page.getByRole("button", { name: /^Desk/ }).click();
  await elsewhere.keyboard.press("m");
  await expect(page.getByRole("log")).toContainText("Nothing has been said yet");

  await say(page, "Ann", "hello <b>desk</b>");
  await expect(said(elsewhere)).toHaveText([/Ann\s+hello <b>desk<\/b>/]);
  // Who has said it is not typing any more; who types is.
  await expect(elsewhere.locator(".talk .typing")).toHaveText("");
  await page.getByLabel("Message to the desk").pressSequentially("more");
  await expect(elsewhere.locator(".talk .typing")).toHaveText("Ann is typing …");
  await expect(page.locator(".talk .typing")).toHaveText("");
  // It ends by itself.
  await expect(elsewhere.locator(".talk .typing")).toHaveText("");
  await say(elsewhere, "Bob", "hi");
  await expect(said(page)).toHaveText([/Ann/, /Bob\s+hi/]);

  // Programs speak too, and both browsers watch what is open here.
  const symbol = await desk.title.innerText();
  await desk.server.publish([
    { type: "message", channel: "desk", event: "news", data: { headline: "x" } },
  ]);
  await expect(said(page).last()).toHaveText(/somebody\s+news: \{"headline":"x"\}/);
  await expect(page.getByTestId("watchers")).toHaveText(`2 watch ${symbol}`);

  // Another tab of this browser, whose worker has the channel already.
  const beside = await page.context().newPage();
  await beside.goto(desk.url);
  await beside.keyboard.press("m");
  await expect(said(beside)).toHaveCount(3);
  await expect(beside.getByLabel("Your name")).toHaveValue("Ann");
  await page.screenshot({ path: info.outputPath("desk.png") });
  await elsewhere.context().close();
  await expect(page.getByTestId("watchers")).toHaveText(`1 watches ${symbol}`);
});

test("one who may not publish is told why, and keeps what was written", async ({ desk, page }) => {
  await desk.server.kill();
  await desk.server.start("--symbols 5 --rate 100 --seed 7 --publish off");
  await desk.open();
  await page.keyboard.press("m");
  await say(page, "Ann", "hello");
  await expect(page.getByRole("alert")).toContainText("Not sent: nothing may be published here");
  await expect(page.getByLabel("Message to the desk")).toHaveValue("hello");
  await page.keyboard.press("Escape");
  await expect(page.locator(".talk")).toBeHidden();
});
