import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { expect, test as base, type Locator, type Page } from "@playwright/test";
import type { AxeResults, RunOptions } from "axe-core";
import { Server } from "./server.js";

/** The dashboard of a server of the test's own, in a page whose every error fails the test. */
export class Dashboard {
  /** Where the page comes from: the server, or a line to it. */
  url: string;

  constructor(
    readonly page: Page,
    readonly server: Server,
  ) {
    this.url = server.url;
  }

  /** Opens the page, and waits until it shows live prices. */
  async open(address = ""): Promise<void> {
    await this.page.goto(this.url + address);
    await expect(this.connection).toHaveText(/Live|Lagging/);
    await expect(this.rows.first().locator(".last")).toHaveText(/\d/);
  }

  /** The rows of the watchlist that are in the document. */
  get rows(): Locator {
    return this.page.locator(".grid .canvas [role=row]:visible");
  }

  /** The row of the watchlist at `position`, counted from 0 over all of them. */
  row(position: number): Locator {
    return this.page.locator(`.grid .canvas [role=row][aria-rowindex="${position + 2}"]:visible`);
  }

  rowOf(symbol: string): Locator {
    return this.rows.filter({ has: this.page.locator(".symbol", { hasText: symbol }) }).first();
  }

  cell(position: number, column: string): Locator {
    return this.row(position).locator(`.${column}`);
  }

  async symbol(position: number): Promise<string> {
    return (
      (await this.cell(position, "symbol").evaluate((cell) => cell.firstChild?.textContent)) ?? ""
    );
  }

  /** Symbols of the rows in the document, from the top. */
  async symbols(): Promise<string[]> {
    return this.page.evaluate(() =>
      [...document.querySelectorAll<HTMLElement>(".grid .canvas [role=row]")]
        .filter((row) => !row.hidden)
        .sort((a, b) => Number(a.ariaRowIndex) - Number(b.ariaRowIndex))
        .map((row) => row.querySelector(".symbol")?.firstChild?.textContent ?? ""),
    );
  }

  /** How many rows of the watchlist have their small line. */
  async trends(): Promise<number> {
    return this.page.locator(".grid .canvas .spark path[d*=L]").count();
  }

  get connection(): Locator {
    return this.page.getByTestId("connection");
  }

  get title(): Locator {
    return this.page.locator(".headline h2");
  }

  get trades(): Locator {
    return this.page.getByTestId("trade");
  }

  async frame(): Promise<void> {
    await this.page.evaluate(() => new Promise(requestAnimationFrame));
  }

  /** Waits until the prices on the page are others than now. */
  async expectPricesToChange(): Promise<void> {
    const prices = () => this.rows.locator(".last").allInnerTexts();
    const before = await prices();
    await expect.poll(prices).not.toEqual(before);
  }

  /** What axe says against the page as it is. */
  violations(within = "html"): Promise<unknown[]> {
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
    // Off by default, as it is young: what is said to a button is what stands on it (2.5.3).
    return violations(this.page, { within, tags, rules: ["label-content-name-mismatch"] });
  }
}

interface Axe {
  run(within: string, options: RunOptions): Promise<AxeResults>;
}

/** What axe says against `within` of a page by the rules of `tags` and by `rules` besides. */
export async function violations(
  page: Page,
  asked: { within?: string; tags: string[]; rules?: string[] },
): Promise<unknown[]> {
  // Half a megabyte, which a document keeps once it has it.
  if (!(await page.evaluate(() => "axe" in globalThis))) await page.evaluate(AXE);
  return page.evaluate(async ({ within = "html", tags, rules = [] }) => {
    const { axe } = globalThis as unknown as { axe: Axe };
    const { violations } = await axe.run(within, {
      runOnly: { type: "tag", values: tags },
      rules: Object.fromEntries(rules.map((rule) => [rule, { enabled: true }])),
      // What passed is thousands of nodes, each with its markup, and nobody reads of it.
      resultTypes: ["violations"],
      // Style sheets are asked for again, for a rule that is not among these.
      preload: false,
    });
    return violations.map(({ id, nodes }) => ({
      id,
      where: nodes.slice(0, 3).map(({ html, failureSummary }) => `${html} ${failureSummary}`),
    }));
  }, asked);
}

/** For a poll of what comes soon: by itself it would look again after a second. */
export const OFTEN = { intervals: [50] };

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Runs in a page, before anything of it. One frame of four is drawn: in software, sixty a second take a core for each page. */
function drawSome(): void {
  const next = globalThis.requestAnimationFrame.bind(globalThis);
  const cancel = globalThis.cancelAnimationFrame.bind(globalThis);
  /** What each request waits for now. */
  const waits = new Map<number, number>();
  globalThis.requestAnimationFrame = (draw) => {
    let skipped = 0;
    const step = (now: number) => {
      if (++skipped < 4) {
        waits.set(request, next(step));
      } else {
        waits.delete(request);
        draw(now);
      }
    };
    const request = next(step);
    return request;
  };
  globalThis.cancelAnimationFrame = (request) => {
    cancel(waits.get(request) ?? request);
    waits.delete(request);
  };
}

/** A test of the dashboard: it has one of a fresh server, and no page of it may report an error or ask another host. */
export const test = base.extend<{ desk: Dashboard; flags: string; everyFrame: boolean }>({
  flags: ["", { option: true }],
  /** For what hangs on how often a page draws. */
  everyFrame: [false, { option: true }],
  desk: async ({ page, flags, everyFrame }, use) => {
    const server = await Server.on();
    await server.start(flags);
    if (!everyFrame) await page.context().addInitScript(drawSome);
    const desk = new Dashboard(page, server);
    const errors: string[] = [];
    page.on("pageerror", (error) => errors.push(error.message));
    page.on("console", (message) => {
      // Servers are killed in tests, and lines cut: what cannot be reached then is told by the browser itself.
      const expected =
        /WebSocket connection .* failed|net::ERR_(CONNECTION_(REFUSED|RESET|CLOSED)|EMPTY_RESPONSE|SOCKET_NOT_CONNECTED)/;
      if (message.type() === "error" && !expected.test(message.text()))
        errors.push(`${message.text()} ${message.location().url}`);
    });
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(desk.url) && !/^(data|blob):/.test(url)) errors.push(`asked for ${url}`);
    });
    try {
      await use(desk);
    } finally {
      await server.kill();
    }
    expect(errors).toEqual([]);
  },
});

export { expect };
