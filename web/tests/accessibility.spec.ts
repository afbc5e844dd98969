import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { expect, test } from "@playwright/test";
import type { AxeResults } from "axe-core";
import { Server } from "./server.js";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const tags = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"];

for (const colorScheme of ["dark", "light"] as const)
  test(`the ${colorScheme} page meets WCAG AA, live and disconnected`, async ({ page }) => {
    const server = await Server.on();
    await server.start();
    try {
      // A cell in the middle of a flash has a colour of no theme.
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.goto(server.url);
      await expect.poll(() => page.getByTestId("trade").count()).toBeGreaterThan(2);
      await page.getByTestId("connection").click();
      const violations = async () => {
        await page.evaluate(axe);
        const results = await page.evaluate<AxeResults, string[]>(
          (values) =>
            (globalThis as unknown as { axe: { run(o: object): Promise<AxeResults> } }).axe.run({
              runOnly: { type: "tag", values },
            }),
          tags,
        );
        return results.violations.map(({ id, nodes }) => ({
          id,
          where: nodes.slice(0, 3).map(({ html, failureSummary }) => `${html} ${failureSummary}`),
        }));
      };
      expect(await violations()).toEqual([]);
      await server.kill();
      await expect(page.locator(".lost")).toBeVisible();
      expect(await violations()).toEqual([]);
    } finally {
      await server.kill();
    }
  });
