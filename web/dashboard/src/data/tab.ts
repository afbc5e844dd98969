import {
  Conflation,
  type Change,
  type Instrument,
  type Micros,
  type Position,
  type Update,
} from "@tickcast/client";
import { NO_DEMAND, type Batch, type Demand, type ToPage } from "./messages.js";
import { pack } from "./pack.js";

/** What a port of a worker can do. */
export interface Port<Message> {
  postMessage(message: Message, transfer?: Transferable[]): void;
}

/** Images of the overview that a batch has at most: a page that has 10,000 of them to take stays smooth. */
const OVERVIEW_IMAGES = 1_000;
/** Times of updates that a batch has at most: enough to measure by. */
const DUE_TIMES = 64;

/** One page, as the relay sees it: its demand, and what is pending until it has drawn the batch before. */
export class Tab {
  demand: Demand = NO_DEMAND;
  private watched = new Set<string>();
  /** From the session of what the page watches, and from that of the universe. */
  private readonly images = new Conflation();
  private readonly overview = new Conflation();
  /** Trades and bars of the open symbol. */
  private readonly entries = new Conflation();
  private anew = true;
  private drawn = true;
  private position = 0 as Position;
  private time = 0 as Micros;
  private due: number[] = [];

  constructor(readonly port: Port<ToPage>) {}

  /** What it shows and has open, while it is visible. */
  get watching(): string[] {
    return [...this.watched];
  }

  watches(symbol: string): boolean {
    return this.watched.has(symbol);
  }

  opens(change: Extract<Change, { kind: "trades" | "closed_bars" | "bar" }>): boolean {
    const { open } = this.demand;
    if (open?.symbol !== change.instrument.symbol) return false;
    return change.kind === "trades" || change.interval === open.interval;
  }

  /** Returns what it watches now and did not before. */
  ask(demand: Demand): string[] {
    if (demand.open?.serial !== this.demand.open?.serial) this.entries.clear();
    // The page is hidden: how late it is drawn means nothing.
    if (demand.hidden) this.due = [];
    const before = this.watched;
    this.demand = demand;
    this.watched = new Set(demand.hidden ? [] : demand.watched);
    if (demand.open) this.watched.add(demand.open.symbol);
    return [...this.watched].filter((symbol) => !before.has(symbol));
  }

  /** @param changes those of an update that it wants */
  add(changes: readonly Change[], { position, time }: Moment, from: "watched" | "universe"): void {
    const update = (changes: readonly Change[]): Update => ({
      type: "update",
      position,
      time,
      whole: true,
      changes,
    });
    // One of the two sessions is a little ahead.
    if (position >= this.position) [this.position, this.time] = [position, time];
    const entries = changes.filter(isEntry);
    const images = changes.filter((change) => !isEntry(change));
    if (entries.length > 0) this.entries.add(update(entries));
    if (images.length > 0) (from === "watched" ? this.images : this.overview).add(update(images));
  }

  /** Notes when an update for it was due. */
  addDue(due: number): void {
    if (this.due.length < DUE_TIMES && !this.demand.hidden) this.due.push(due);
  }

  /** Everything that it received is of another tape. */
  replace(): void {
    for (const waiting of [this.images, this.overview, this.entries]) waiting.clear();
    this.due = [];
    this.position = 0 as Position;
    this.anew = true;
  }

  /** The page has drawn the batch that it had. */
  hasDrawn(): void {
    this.drawn = true;
    this.flush();
  }

  /** Sends what is pending, unless the page has a batch that it has not drawn. */
  flush(): void {
    if (!this.drawn) return;
    const taken = [this.images.take(), this.entries.take(), this.overview.take(OVERVIEW_IMAGES)];
    const changes = taken.flatMap((update) => update?.changes ?? []);
    if (changes.length === 0 && !this.anew) return;
    const instruments: Instrument[] = [];
    const rest = changes.filter((change) => {
      if (change.kind === "instrument") instruments.push(change.instrument);
      return change.kind !== "instrument";
    });
    const { anew, position, time, due, demand } = this;
    const packed = pack(rest);
    const serial = demand.open?.serial ?? null;
    const batch: Batch = {
      kind: "batch",
      anew,
      position,
      time,
      instruments,
      ...packed,
      serial,
      due,
    };
    this.anew = this.drawn = false;
    this.due = [];
    this.port.postMessage(batch, [packed.packed.buffer]);
  }
}

export interface Moment {
  readonly position: Position;
  readonly time: Micros;
}

function isEntry(change: Change): boolean {
  return change.kind === "trades" || change.kind === "closed_bars" || change.kind === "bar";
}
