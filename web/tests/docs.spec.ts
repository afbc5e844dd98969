import { expect, test, type Page } from "@playwright/test";
import { violations } from "./page.js";
import { Server } from "./server.js";

const AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"];

let server: Server;

test.beforeEach(async () => {
  server = await Server.on();
  await server.start();
});

test.afterEach(async () => {
  await server.kill();
});

/** Everything that goes wrong on the page, and what it asks of others. */
function watchErrors(page: Page): string[] {
  const errors: string[] = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(server.url)) errors.push(`asked ${request.url()}`);
  });
  return errors;
}

test("every request and every message is there to read, with a command to copy", async ({
  page,
  context,
}) => {
  const errors = watchErrors(page);
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.goto(`${server.url}docs`);
  const open = (await (await page.request.get(`${server.url}v1/openapi.json`)).json()) as {
    paths: Record<string, Record<string, { operationId: string }>>;
  };
  const operations = Object.values(open.paths).flatMap((methods) => Object.values(methods));
  await expect(page.getByTestId("operation")).toHaveCount(operations.length);
  for (const { operationId } of operations)
    await expect(page.locator(`article#${operationId}`)).toBeVisible();
  await expect(page.locator("article[id='request.subscribe']")).toContainText("topics");
  await expect(page.locator("article[id='answer.update']")).toContainText("position");

  const command = page.getByLabel("Command for GET /v1/bars", { exact: true });
  const line = `curl '${server.url}v1/bars?symbols=AAPL,MSFT&interval=1m&limit=100'`;
  await expect(command).toHaveText(line);
  await page.getByRole("button", { name: "Copy: Command for GET /v1/bars", exact: true }).click();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(line);

  await page.getByText("Example: subscribe with all options").click();
  await expect(
    page.getByLabel("Example of subscribe: subscribe with all options", { exact: true }),
  ).toContainText('"max_hz": 2.5');
  expect(await violations(page, { tags: AXE_TAGS })).toEqual([]);
  expect(errors).toEqual([]);
});

test("an address leads to what it names", async ({ page }) => {
  await page.goto(`${server.url}docs#answer.goodbye`);
  await expect(page.locator("article[id='answer.goodbye']")).toBeInViewport();
  await page.getByRole("link", { name: "GET /v1/quotes" }).click();
  await expect(page.locator("article#quotes")).toBeInViewport();
});

test("documents that cannot be had are asked for again", async ({ page }) => {
  await page.route("**/v1/asyncapi.json", (route) => route.fulfill({ status: 503 }), { times: 1 });
  await page.goto(`${server.url}docs`);
  await expect(page.getByRole("alert")).toContainText("v1/asyncapi.json: 503");
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(page.locator("article#quotes")).toBeVisible();
});
