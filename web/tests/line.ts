import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

/** The way from a page to its server, which can be cut. */
export class Line {
  private readonly ends = new Set<Socket>();
  private whole = true;

  private constructor(
    private readonly entrance: Server,
    private readonly to: URL,
  ) {
    entrance.on("connection", (near: Socket) => this.carry(near));
  }

  static async to(url: string): Promise<Line> {
    const entrance = createServer().listen(0, "127.0.0.1");
    await once(entrance, "listening");
    return new Line(entrance, new URL(url));
  }

  get url(): string {
    return `http://127.0.0.1:${(this.entrance.address() as AddressInfo).port}/`;
  }

  /** Ends all connections, and refuses others until it is mended. */
  cut(): void {
    this.whole = false;
    for (const end of this.ends) end.destroy();
  }

  mend(): void {
    this.whole = true;
  }

  close(): void {
    this.cut();
    this.entrance.close();
  }

  private carry(near: Socket): void {
    if (!this.whole) {
      near.destroy();
      return;
    }
    const far = connect(Number(this.to.port), this.to.hostname);
    for (const [end, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.ends.add(end);
      end.on("error", () => {}); // it is closed behind it
      end.on("close", () => {
        this.ends.delete(end);
        other.destroy();
      });
      end.pipe(other);
    }
  }
}
