import type { Page } from "@playwright/test";
import config from "../playwright.config.js";
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

/**
 * Each of `panels` shown in turn, or the page as it is for null: its texts that are cut, stand outside the window or their panel,
 * or upon each other. One that ends in an ellipsis is meant to. One call for all of them, as there are seven hundred layouts.
 */
function faults(page: Page, panels: readonly (string | null)[]): Promise<string[]> {
  return page.evaluate(async (panels) => {
    interface Text {
      text: string;
      element: Element;
      left: number;
      right: number;
      top: number;
      bottom: number;
    }
    interface Clip {
      clip: DOMRect;
      ellipsis: boolean;
      scrolls: boolean;
    }
    // Over once all that was to be painted in it is.
    const frame = () => new Promise((over) => requestAnimationFrame(() => setTimeout(over)));
    const found: string[] = [];
    for (const panel of panels) {
      const report = (fault: string) => found.push(panel ? `${panel}: ${fault}` : fault);
      const button = panel ? press(panel, report) : null;
      await frame();
      await frame();
      if (button && button.ariaCurrent !== "page") report("its button does not show it");
      look(report);
    }
    return found;

    /** Presses the button that shows a panel, where a finger would. */
    function press(panel: string, report: (fault: string) => void): HTMLElement {
      const button = [...document.querySelectorAll<HTMLElement>("nav.panels button")].find(
        (button) => button.textContent.trim() === panel,
      )!;
      const { left, top, width, height } = button.getBoundingClientRect();
      const hit = document.elementFromPoint(left + width / 2, top + height / 2);
      if (button.contains(hit)) (hit as HTMLElement).click();
      else report("its button cannot be pressed");
      return button;
    }

    function look(report: (fault: string) => void): void {
      // Texts share most of what they stand in.
      const clips = new Map<Element, Clip | null>();
      const clipOf = (box: Element): Clip | null => {
        let found = clips.get(box);
        if (found === undefined) {
          const { display, overflow, overflowX, textOverflow } = getComputedStyle(box);
          const none = display === "contents" || overflow === "visible";
          const [ellipsis, scrolls] = [textOverflow === "ellipsis", overflowX === "auto"];
          found = none ? null : { clip: box.getBoundingClientRect(), ellipsis, scrolls };
          clips.set(box, found);
        }
        return found;
      };
      const texts: Text[] = [];
      const range = document.createRange();
      const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const text = node.textContent!.trim();
        const element = node.parentElement!;
        if (text === "" || element.closest(".spoken, .pill, option, script, style")) continue;
        if (!element.checkVisibility({ visibilityProperty: true })) continue;
        range.selectNodeContents(node);
        let { left, right, top, bottom } = range.getBoundingClientRect();
        let elided = false;
        for (let box: Element | null = element; box; box = box.parentElement) {
          const clipping = clipOf(box);
          if (!clipping) continue;
          const { clip, ellipsis, scrolls } = clipping;
          elided ||= ellipsis || scrolls;
          if (
            !elided &&
            (left < clip.left - 1 || right > clip.right + 1) &&
            bottom > clip.top &&
            top < clip.bottom
          )
            report(`“${text}” is cut by ${box.className || box.tagName}`);
          [left, right] = [Math.max(left, clip.left), Math.min(right, clip.right)];
          [top, bottom] = [Math.max(top, clip.top), Math.min(bottom, clip.bottom)];
        }
        if (right - left < 0.5 || bottom - top < 0.5) continue;
        const panel = element.closest("section, header, .headline")?.getBoundingClientRect();
        if (left < -0.5 || right > innerWidth + 0.5) report(`“${text}” stands outside the window`);
        else if (panel && (left < panel.left - 1 || right > panel.right + 1))
          report(`“${text}” stands outside its panel`);
        texts.push({ text, element, left, right, top, bottom });
      }
      texts.sort((a, b) => a.top - b.top);
      for (const [i, a] of texts.entries())
        for (let j = i + 1; j < texts.length && texts[j]!.top < a.bottom; j++) {
          const b = texts[j]!;
          const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
          const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
          if (across > 1 && down > 3) report(`“${a.text}” runs into “${b.text}”`);
        }
      if (document.documentElement.scrollWidth > innerWidth) report("the page scrolls sideways");
    }
  }, panels);
}

/** Every tenth width from a small phone to a large screen, and those on either side of where something changes. */
const WIDTHS = [
  ...Array.from({ length: 161 }, (_, i) => 320 + 10 * i),
  ...[560, 900, 1080, 1170, 1320].flatMap((width) => [width, width + 1]),
].sort((a, b) => a - b);

/** With SHOTS=1 each layout of these widths is pictured. */
const PICTURED = [320, 360, 600, 910, 1280, 1440, 1920];

const launched = config.use!.launchOptions!;

test.use({
  everyFrame: true,
  flags: "--feed none",
  // A trace would tell of seven hundred layouts, one like the other.
  trace: "off",
  // The frames that a layout takes come as soon as they can, and not sixty a second as on a screen.
  launchOptions: {
    ...launched,
    args: [...launched.args!, "--disable-frame-rate-limit", "--disable-gpu-vsync"],
  },
});

test.describe("with large prices and long symbols", () => {
  // The longest ones, and the last: each on a core.
  test.describe.configure({ mode: "parallel" });

  for (const view of ["watchlist", "heatmap"] as const)
    test(`nothing is cut, outside or upon something else at any width, beside the ${view}`, async ({
      desk,
      page,
    }, info) => {
      test.setTimeout(600_000);
      await desk.server.publish(events());
      await desk.open();
      // It is laid out and not painted, unless it is pictured: nobody sees it.
      if (!process.env["SHOTS"])
        await page.evaluate(() => (document.documentElement.style.opacity = "0"));
      if (view === "heatmap") await page.keyboard.press("h");
      await expect(desk.trades.first()).toBeVisible();
      const wrong: string[] = [];
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
          const pictured = process.env["SHOTS"] && PICTURED.includes(width);
          for (const panels of pictured ? shown.map((panel) => [panel]) : [shown]) {
            for (const fault of await faults(page, panels)) wrong.push(`${width} ${fault}`);
            if (pictured)
              await page.screenshot({
                path: info.outputPath(`${symbol}-${width}-${panels[0] ?? view}.png`),
              });
          }
        }
      }
      expect(wrong.slice(0, 40)).toEqual([]);
    });

  test("nothing is cut on a phone whose server is gone", async ({ desk, page }) => {
    await desk.server.publish(events());
    await page.setViewportSize({ width: 320, height: 900 });
    await desk.open();
    await desk.server.kill();
    const wrong: string[] = [];
    // The longest of what the badges say.
    await expect(desk.connection).toHaveText(/^Reconnecting, attempt \d+ in \d+ s$/);
    for (let width = 320; width <= 900; width += 20) {
      await page.setViewportSize({ width, height: 900 });
      for (const fault of await faults(page, ["List", "Chart", "Trades", "Movers"]))
        wrong.push(`${width} ${fault}`);
    }
    expect(wrong).toEqual([]);
  });
});
