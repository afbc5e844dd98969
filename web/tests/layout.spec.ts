import type { Page } from "@playwright/test";
import { expect, test } from "./page.js";

/** Whatever a market may hold: prices of sixteen digits, long symbols and names, sizes of meme coins, no previous close. */
const MARKET = [
  {
    symbol: "BTC-USD-241227-100000-C-SETTLED-IN-BTC",
    name: "Bitcoin option, December",
    price: "1234567.12345678",
    size: "12345678.12345678",
  },
  {
    symbol: "KRW-MEGACORP",
    name: "A company with a name that is much longer than any column",
    price: "1407374883553.27",
    size: "12",
  },
  { symbol: "PEPE", name: "Pepe", price: "0.0000000123", size: "4503599627370496" },
  { symbol: "NEG", name: "A spread", price: "-37.63", size: "1000" },
  { symbol: "BIG", name: "Units", price: "9007199254740", size: "9007199254740" },
];

/** So that each has a day, a change and a tape. */
function events() {
  return MARKET.flatMap(({ symbol, name, price, size }, i) => [
    {
      type: "instrument",
      symbol,
      name,
      sector: i % 2 ? "consumer-discretionary" : "energy",
      currency: "USD",
    },
    { type: "trade", symbol, price, size, side: "buy", conditions: "TIZ4" },
    {
      type: "trade",
      symbol,
      price: price.replace(/[1-8](?=\D*$)/, (d) => String(Number(d) + 1)),
      size,
      side: "sell",
    },
    { type: "quote", symbol, bid: price, bid_size: size, ask: price, ask_size: size },
  ]);
}

/** Texts that are cut, stand outside the window or their panel, or upon each other. One that ends in an ellipsis is meant to. */
function faults(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    interface Text {
      text: string;
      element: Element;
      left: number;
      right: number;
      top: number;
      bottom: number;
    }
    const found: string[] = [];
    const texts: Text[] = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const text = node.textContent!.trim();
      const element = node.parentElement!;
      if (text === "" || element.closest(".spoken, .pill, option, script, style")) continue;
      if (!element.checkVisibility({ visibilityProperty: true })) continue;
      const range = document.createRange();
      range.selectNodeContents(node);
      let { left, right, top, bottom } = range.getBoundingClientRect();
      let elided = false;
      for (let box: Element | null = element; box; box = box.parentElement) {
        const style = getComputedStyle(box);
        if (style.display === "contents" || style.overflow === "visible") continue;
        const clip = box.getBoundingClientRect();
        elided ||= style.textOverflow === "ellipsis" || style.overflowX === "auto";
        if (
          !elided &&
          (left < clip.left - 1 || right > clip.right + 1) &&
          bottom > clip.top &&
          top < clip.bottom
        )
          found.push(`“${text}” is cut by ${box.className || box.tagName}`);
        [left, right] = [Math.max(left, clip.left), Math.min(right, clip.right)];
        [top, bottom] = [Math.max(top, clip.top), Math.min(bottom, clip.bottom)];
      }
      if (right - left < 0.5 || bottom - top < 0.5) continue;
      const panel = element.closest("section, header, .headline")?.getBoundingClientRect();
      if (left < -0.5 || right > innerWidth + 0.5)
        found.push(`“${text}” stands outside the window`);
      else if (panel && (left < panel.left - 1 || right > panel.right + 1))
        found.push(`“${text}” stands outside its panel`);
      texts.push({ text, element, left, right, top, bottom });
    }
    texts.sort((a, b) => a.top - b.top);
    for (const [i, a] of texts.entries())
      for (let j = i + 1; j < texts.length && texts[j]!.top < a.bottom; j++) {
        const b = texts[j]!;
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (across > 1 && down > 3) found.push(`“${a.text}” runs into “${b.text}”`);
      }
    if (document.documentElement.scrollWidth > innerWidth) found.push("the page scrolls sideways");
    return found;
  });
}

/** Every tenth width from a small phone to a large screen, and those on either side of where something changes. */
const WIDTHS = [
  ...Array.from({ length: 161 }, (_, i) => 320 + 10 * i),
  ...[560, 900, 1080, 1170, 1320].flatMap((width) => [width, width + 1]),
].sort((a, b) => a - b);

// A trace takes a picture of each of a thousand layouts.
test.use({ flags: "--feed none", trace: "off" });

test.describe("with large prices and long symbols", () => {
  for (const view of ["watchlist", "heatmap"] as const)
    test(`nothing is cut, outside or upon something else at any width, beside the ${view}`, async ({
      desk,
      page,
    }, info) => {
      test.setTimeout(600_000);
      await desk.server.publish(events());
      await desk.open();
      if (view === "heatmap") await page.keyboard.press("h");
      await expect(desk.trades.first()).toBeVisible();
      const wrong: string[] = [];
      const panels = page.getByRole("navigation", { name: "Panels" });
      for (const { symbol } of MARKET) {
        await page.setViewportSize({ width: 1280, height: 900 });
        await page.evaluate((symbol) => (location.hash = encodeURIComponent(symbol)), symbol);
        await expect(desk.title).toHaveText(symbol);
        await expect(desk.trades.first()).toBeVisible();
        // The others stand as they do with the first.
        const widths =
          symbol === MARKET[0]!.symbol ? WIDTHS : WIDTHS.filter((width) => width % 40 === 0);
        for (const width of widths) {
          await page.setViewportSize({ width, height: 900 });
          const shown =
            width > 900
              ? [null]
              : view === "heatmap"
                ? ["Heatmap"]
                : ["List", "Chart", "Trades", "Movers"];
          for (const panel of shown) {
            if (panel) await panels.getByRole("button", { name: panel }).click();
            await desk.frame();
            await desk.frame();
            for (const fault of await faults(page))
              wrong.push(`${width} ${panel ?? view}: ${fault}`);
            if (process.env["SHOTS"] && [320, 360, 600, 910, 1280, 1440, 1920].includes(width))
              await page.screenshot({
                path: info.outputPath(`${symbol}-${width}-${panel ?? view}.png`),
              });
          }
        }
      }
      expect(wrong.slice(0, 40)).toEqual([]);
    });
});
