import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: "tests",
  // What is measured has the machine to itself: run it as a step of its own.
  projects: [
    { name: "pages", grepInvert: /@measured/ },
    { name: "measured", grep: /@measured/ },
  ],
  // Half of a test is waiting: for a server, a second of market, a frame. Another one is run meanwhile.
  workers: 2,
  timeout: 240_000,
  // What is waited for comes, or never does: on a machine that has other work, too.
  expect: { timeout: 40_000 },
  forbidOnly: !!process.env["CI"],
  reporter: "list",
  outputDir: "test-results",
  use: {
    viewport: { width: 1440, height: 900 },
    colorScheme: "dark",
    // No film of each test, and no copy of the document at each step: where no graphics card draws, pictures take half of the
    // processor, and the copies another tenth. The steps are in the trace, and a picture is taken of what failed.
    trace: { mode: "retain-on-failure", screenshots: false, snapshots: false },
    screenshot: "only-on-failure",
    launchOptions: {
      // The distribution's browser: Playwright's own is never downloaded.
      executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    },
  },
});
