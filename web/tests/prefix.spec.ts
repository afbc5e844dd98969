import { once } from "node:events";
import { createServer, request } from "node:http";
import { connect, type AddressInfo, type Socket } from "node:net";
import { expect, test } from "@playwright/test";
import { Server } from "./server.js";

/** A proxy that has the server below a path of its own, and knows nothing else of it. */
async function below(prefix: string, server: Server) {
  const { port: to } = new URL(server.url);
  const path = (url = "") => (url.startsWith(prefix) ? url.slice(prefix.length - 1) : null);
  const proxy = createServer((incoming, outgoing) => {
    const inner = path(incoming.url);
    if (inner === null) return void outgoing.writeHead(404).end();
    const { method, headers } = incoming;
    const asked = request(
      { host: "127.0.0.1", port: to, path: inner, method, headers },
      (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(outgoing);
      },
    );
    asked.on("error", () => outgoing.destroy());
    incoming.pipe(asked);
  });
  proxy.on("upgrade", ({ url, rawHeaders }, socket: Socket) => {
    const inner = path(url);
    if (inner === null) return void socket.destroy();
    const lines = rawHeaders.flatMap((name, i) => (i % 2 ? [] : [`${name}: ${rawHeaders[i + 1]}`]));
    const server = connect(Number(to), "127.0.0.1");
    server.write(`GET ${inner} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`);
    for (const end of [server, socket]) end.on("error", () => {});
    server.pipe(socket).pipe(server);
  });
  await once(proxy.listen(0, "127.0.0.1"), "listening");
  return {
    url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}${prefix}`,
    stop: () => {
      proxy.closeAllConnections();
      proxy.close();
    },
  };
}

test("the pages work below a path of a proxy's", async ({ page }) => {
  const server = await Server.on();
  await server.start();
  const proxy = await below("/desk/one/", server);
  const failed: string[] = [];
  page.on("response", (answer) => {
    if (answer.status() >= 400) failed.push(`${answer.status()} ${answer.url()}`);
  });
  try {
    await page.goto(proxy.url);
    await expect(page.getByTestId("connection")).toHaveText(/Live|Lagging/);
    await page.goto(`${proxy.url}ops`);
    await expect(page.getByText("Send latency p99")).toBeVisible();
    await page.getByRole("link", { name: "API", exact: true }).click();
    const command = page.getByLabel("Command for GET /v1/quotes", { exact: true });
    await expect(command).toHaveText(`curl '${proxy.url}v1/quotes?symbols=AAPL,MSFT'`);
    await page.getByRole("link", { name: "Dashboard", exact: true }).click();
    await expect(page.getByTestId("connection")).toHaveText(/Live|Lagging/);
    expect(page.url().replace(/#.*/, "")).toBe(proxy.url);
    expect(failed).toEqual([]);
  } finally {
    proxy.stop();
    await server.kill();
  }
});
