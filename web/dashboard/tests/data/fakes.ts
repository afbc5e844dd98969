import { TickcastClient } from "@tickcast/client";
import { FakeClock, FakeSocket, welcome } from "../../../client/tests/fakes.js";
import { Link, type LinkEvents } from "../../src/data/link.js";
import type { ToPage, ToRelay } from "../../src/data/messages.js";
import { Relay } from "../../src/data/relay.js";
import { Timing } from "../../src/data/timing.js";

/** The clock was at 0 then. */
export const ORIGIN = 1_795_000_000_000;

/** One end of the connection: a client, its sockets, and which of its topics the server has granted. */
class FakeSession {
  readonly sockets: FakeSocket[] = [];
  readonly client: TickcastClient;

  constructor(clock: FakeClock) {
    const { sockets } = this;
    class Socket extends FakeSocket {
      constructor(url: string, protocols: string[]) {
        super(url, protocols);
        sockets.push(this);
      }
    }
    this.client = new TickcastClient("ws://test/v1/ws", {
      WebSocket: Socket,
      clock,
      random: () => 0.5,
    });
  }

  get socket(): FakeSocket {
    return this.sockets.at(-1)!;
  }

  /** Requests of `op` since the last look at any; what is subscribed is granted. */
  asked(): { op: string; topics?: string[]; max_hz?: number }[] {
    const asked = [...this.socket.requests];
    this.socket.accept();
    this.socket.requests.length = 0;
    for (const { op, topics } of asked)
      if (op === "unsubscribe")
        this.socket.deliver({ type: "unsubscribed", topics: topics.map((topic) => ({ topic })) });
    return asked;
  }

  begin(epoch = 7): void {
    this.socket.deliver(welcome(epoch));
  }
}

export class FakePage {
  visibilityState: DocumentVisibilityState = "visible";
  private readonly listeners = new Set<() => void>();

  addEventListener(_: string, listener: unknown): void {
    this.listeners.add(listener as () => void);
  }

  become(state: DocumentVisibilityState): void {
    this.visibilityState = state;
    for (const listener of this.listeners) listener();
  }
}

/** A page's link with frames that are drawn when told to, and messages that are copied as between threads. */
export class FakeTab {
  readonly page = new FakePage();
  readonly link: Link;
  readonly said: [string, unknown][] = [];
  /** What the relay has posted. */
  readonly received: ToPage[] = [];
  /** How long the next frames take, in ms. */
  frame_ms = 16;
  private painters: ((now: number) => void)[] = [];
  private requested = false;
  private tab: ReturnType<Relay["attach"]>;

  constructor(
    private readonly relay: Relay,
    private readonly clock: FakeClock,
  ) {
    let link: Link | null = null;
    const early: ToPage[] = [];
    this.tab = relay.attach({
      postMessage: (message) => {
        const copy = structuredClone(message);
        this.received.push(copy);
        if (link) link.receive(copy);
        else early.push(copy);
      },
    });
    const port = {
      postMessage: (message: ToRelay) => relay.handle(this.tab, structuredClone(message)),
    };
    const frames = {
      add: (painter: (now: number) => void) => {
        this.painters.push(painter);
        return () => {};
      },
      request: () => (this.requested = true),
    };
    this.link = new Link(port, frames, {
      clock,
      page: this.page,
      origin: ORIGIN,
      painted: (callback) => callback(),
      nextFrame: (callback) => callback(clock.now() + this.frame_ms),
    });
    link = this.link;
    for (const type of ["state", "update", "replaced", "gap", "error"] as const)
      this.link.on(type, (event: LinkEvents[typeof type]) => this.said.push([type, event]));
    for (const message of early) this.link.receive(message);
  }

  /** Draws one frame, if one was asked for, and the page is seen. */
  draw(): void {
    if (!this.requested || this.page.visibilityState === "hidden") return;
    this.requested = false;
    for (const painter of this.painters) painter(this.clock.now());
  }

  /** Draws until nothing more comes. */
  drawAll(): void {
    while (this.requested && this.page.visibilityState === "visible") this.draw();
  }

  /** The changes told since the last look, each as its kind and symbol. */
  told(): string[] {
    return this.said
      .splice(0)
      .flatMap(([type, event]) =>
        type !== "update"
          ? []
          : (event as LinkEvents["update"]).changes.map((change) =>
              "instrument" in change ? `${change.kind} ${change.instrument?.symbol}` : change.kind,
            ),
      );
  }

  goAway(): void {
    this.relay.detach(this.tab);
  }
}

/** A relay with its two sessions, which are welcome and have asked for their first topics. */
export function relayWorld() {
  const clock = new FakeClock();
  const [watched, universe] = [new FakeSession(clock), new FakeSession(clock)];
  const timing = new Timing(ORIGIN);
  const relay = new Relay(watched.client, universe.client, timing, clock, ORIGIN);
  relay.connect();
  for (const session of [watched, universe]) {
    session.begin();
    session.asked();
  }
  return { clock, watched, universe, timing, relay, open: () => new FakeTab(relay, clock) };
}

export type RelayWorld = ReturnType<typeof relayWorld>;
