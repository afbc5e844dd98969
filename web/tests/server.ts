import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";

/** A real server with a simulated feed, on a port of its own. */
export class Server {
  private process: ChildProcess | null = null;
  private output = "";

  private constructor(
    private readonly binary: string,
    private readonly port: number,
  ) {}

  static async on(port?: number): Promise<Server> {
    const binary = process.env["TICKCAST_BIN"];
    if (!binary)
      throw new Error("TICKCAST_BIN must name the server to test, as in target/debug/tickcast");
    return new Server(binary, port ?? (await freePort()));
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}/`;
  }

  /** Starts it, and waits until it says that it is ready. */
  async start(flags = ""): Promise<void> {
    const all = `serve --listen 127.0.0.1:${this.port} ${flags || "--symbols 60 --rate 300 --seed 7"}`;
    const child = spawn(this.binary, all.split(" "));
    this.process = child;
    let failed: Error | null = null;
    child.on("error", (error) => (failed = error));
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (data: Buffer) => (this.output = (this.output + data).slice(-10_000)));
    const deadline = Date.now() + 20_000;
    while (!(await this.ready())) {
      if (failed || child.exitCode !== null || Date.now() > deadline)
        throw new Error(`${this.binary} did not get ready: ${failed ?? this.output}`);
    }
  }

  /** Publishes `events`, all of which must be good. */
  async publish(events: readonly object[]): Promise<void> {
    const body = events.map((event) => JSON.stringify(event)).join("\n");
    const answer = await fetch(`${this.url}v1/publish`, { method: "POST", body });
    const told = await answer.text();
    const { accepted } = JSON.parse(told) as { accepted?: number };
    if (accepted !== events.length) throw new Error(`${events.length} events: ${told}`);
  }

  /** Stops it where it is: its connections stay, and nothing answers on them. */
  freeze(): void {
    this.process?.kill("SIGSTOP");
  }

  /** Kills it without a goodbye. */
  async kill(): Promise<void> {
    const child = this.process;
    this.process = null;
    if (!child || child.exitCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }

  private async ready(): Promise<boolean> {
    try {
      const answer = await fetch(`${this.url}readyz`, { signal: AbortSignal.timeout(1_000) });
      return answer.ok;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50)); // polling another process
      return false;
    }
  }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, "close");
  return port;
}
