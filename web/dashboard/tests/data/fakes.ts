import { TickcastClient } from "@tickcast/client";
import { FakeClock, FakeSocket, welcome, type FakeRequest } from "../../../client/tests/fakes.js";
import { MOMENT } from "../../../client/tests/frames.js";
import { Link, type LinkEvents } from "../../src/data/link.js";
import type { ToPage, ToRelay } from "../../src/data/messages.js";
import { Relay } from "../../src/data/relay.js";
import { Timing } from "../../src/data/timing.js";

/** The clock was at 0 then. */
export const ORIGIN = 1_795_000_000_000;

/** The relay's connection, with both of its sessions. */
class FakeConnection {
  readonly sockets: FakeSocket[] = [];
  readonly client: TickcastClient;

  constructor(clock: FakeClock) {
    const { sockets } = this;
    class Socket extends FakeSocket {
      constructor(url: string, protocols: string[]) {
        super(url, protocols, clock);
        sockets.push(this);
      }
    }
    this.client = new TickcastClient("ws://test/v1/ws", {
      WebSocket: Socket,
      clock,
      random: () => 0.5,
      fetch: null,
    });
  }

  get socket(): FakeSocket {
    return this.sockets.at(-1)!;
  }

  begin(epoch = 7): void {
    this.socket.deliver(welcome(epoch));
  }
}

/** One of them, and which of its topics the server has granted. */
class FakeSession {
  constructor(
    private readonly connection: FakeConnection,
    private readonly number: number,
    readonly client: Pick<TickcastClient, "maxHz" | "image">,
  ) {}

  deliver(message: object): void {
    this.connection.socket.deliver(message, this.number);
  }

  /** What it has asked since the last look; what it has opened and subscribed is granted. */
  asked(epoch = 7): FakeRequest[] {
    const { requests } = this.connection.socket;
    const all = requests.splice(0);
    const isOwn = ({ session = 0 }: FakeRequest) => session === this.number;
    const asked = all.filter(isOwn);
    requests.push(...all.filter((request) => !isOwn(request)));
    for (const { op, id, topics = [] } of asked) {
      const answers = topics.map((topic) => ({ topic, instrument: 3 }));
      if (op === "open") this.deliver({ type: "opened", id, position: 100, time: MOMENT });
      if (op === "subscribe")
        this.deliver({ type: "subscribed", id, epoch, position: 100, topics: answers });
      if (op === "unsubscribe") this.deliver({ type: "unsubscribed", topics: answers });
    }
    return asked;
  }

  /** The last thing that it has asked, which is not answered. */
  get lastRequest(): FakeRequest {
    const { requests } = this.connection.socket;
    return requests.filter(({ session = 0 }) => session === this.number).at(-1)!;
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
  const connection = new FakeConnection(clock);
  const { client } = connection;
  const days = client.openSession();
  const timing = new Timing(ORIGIN);
  const relay = new Relay(client, days, timing, clock, ORIGIN);
  relay.connect();
  const [watched, universe] = [
    new FakeSession(connection, 0, client),
    new FakeSession(connection, 1, days),
  ];
  connection.begin();
  for (const session of [watched, universe]) session.asked();
  const open = () => new FakeTab(relay, clock);
  return { clock, connection, watched, universe, timing, relay, open };
}

export type RelayWorld = ReturnType<typeof relayWorld>;
