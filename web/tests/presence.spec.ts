import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server as HttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, expect, test, type Browser, type Page } from "@playwright/test";
import { build, type Rolldown } from "vite";
import type { ConnectionState, TickcastClient, Update } from "../client/src/index.js";
import config from "../playwright.config.js";
import { Server } from "./server.js";

/** The client in a page of its own: the browser sample of its README, as it stands. */

const WEB = join(import.meta.dirname, "..");

/** What the sample's page tells of it. */
interface Told {
  client: TickcastClient;
  states: ConnectionState[];
  resumed: number;
  updates: number;
  shown: boolean[];
}

let server: Server;
let browser: Browser;
let pages: HttpServer;
let origin: string;

test.beforeAll(async () => {
  server = await Server.on();
  await server.start();
  const script = await bundle(browserSample());
  pages = createServer(({ url }, response) => {
    const isScript = url === "/sample.js";
    response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
    response.end(
      isScript
        ? script
        : url === "/away"
          ? "<title>Away</title>"
          : '<title>Sample</title><script type="module" src="/sample.js"></script>',
    );
  });
  await once(pages.listen(0, "127.0.0.1"), "listening");
  origin = `http://127.0.0.1:${(pages.address() as AddressInfo).port}/`;
  // Playwright turns the cache of pages off, as it knows nothing of what comes back from it.
  browser = await chromium.launch({
    ...config.use!.launchOptions,
    ignoreDefaultArgs: ["--disable-back-forward-cache"],
  });
});

test.afterAll(async () => {
  await browser.close();
  pages.close();
  await server.kill();
});

test("the sample of the README lives after the back button", async () => {
  const page = await browser.newPage();
  await page.goto(origin);
  await expect.poll(() => told(page, ({ client }) => client.state.kind)).toBe("live");
  await page.goto(`${origin}away`);
  await page.evaluate(() => history.back());
  await expect(page).toHaveTitle("Sample");
  await expect.poll(() => told(page, ({ shown }) => shown)).toEqual([false, true]);
  // It is the page that was there before, and goes on at once.
  await expect.poll(() => told(page, ({ client }) => client.state.kind)).toBe("live");
  expect(await told(page, ({ resumed }) => resumed)).toBe(1);
  const kinds = await told(page, ({ states }) => states.map(({ kind }) => kind));
  expect(kinds).toEqual(["live", "reconnecting", "reconnecting", "live"]);
  const before = await told(page, ({ updates }) => updates);
  await expect.poll(() => told(page, ({ updates }) => updates)).toBeGreaterThan(before);
  await page.close();
});

test("a handler that is slow is shown the present", { tag: "@measured" }, async () => {
  const page = await browser.newPage();
  await page.goto(origin);
  await expect.poll(() => told(page, ({ client }) => client.state.kind)).toBe("live");
  const ages = await page.evaluate(
    () =>
      new Promise<number[]>((resolve) => {
        const { client } = window as unknown as Told;
        client.setMaxHz(null);
        const ages: number[] = [];
        client.on("update", ({ time }: Update) => {
          ages.push(Date.now() - time / 1000);
          const until = performance.now() + 50;
          while (performance.now() < until);
          if (ages.length === 200) resolve(ages);
        });
      }),
  );
  const [first = 0] = ages;
  expect(Math.max(...ages.map((age) => age - first))).toBeLessThan(1_000 + 2 * 50);
  await page.close();
});

function told<T>(page: Page, read: (told: Told) => T): Promise<T> {
  return page.evaluate(`(${String(read)})(window)`);
}

/** The example of the client's README that is for pages, at the server here. */
function browserSample(): string {
  const readme = readFileSync(join(WEB, "client/README.md"), "utf8");
  const samples = [...readme.matchAll(/^```ts\n(.*?)^```/gms)].map(({ 1: code }) => code!);
  const sample = samples.find((code) => code.includes("followVisibility"))!;
  const url = server.url.replace("http", "ws");
  expect(sample).toContain("ws://127.0.0.1:8080/");
  return `${sample.replaceAll("ws://127.0.0.1:8080/", url)}
    Object.assign(window, { client, states: [], resumed: 0, updates: 0, shown: [] });
    client.on("state", (state) => window.states.push(state));
    client.on("resumed", () => window.resumed++);
    client.on("update", () => window.updates++);
    addEventListener("pageshow", ({ persisted }) => window.shown.push(persisted));`;
}

async function bundle(code: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "tickcast-sample-"));
  try {
    const entry = join(folder, "sample.js");
    writeFileSync(entry, code);
    const [output] = (await build({
      configFile: false,
      logLevel: "warn",
      root: folder,
      resolve: {
        alias: {
          "@tickcast/client": join(WEB, "client/src/index.ts"),
          "@msgpack/msgpack": join(WEB, "node_modules/@msgpack/msgpack"),
        },
      },
      build: {
        write: false,
        target: "es2022",
        lib: { entry, formats: ["es"], fileName: "sample" },
      },
    })) as Rolldown.RolldownOutput[];
    return output!.output[0].code;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
