import {
  imageChange,
  imageOf,
  isImage,
  isRun,
  kindOf,
  type ImageChange,
  type ImageFields,
  type Run,
} from "./change.js";
import { rescale, type Fields } from "./image.js";
import type {
  Change,
  ClosedBar,
  Instrument,
  InstrumentNumber,
  Topic,
  Trade,
  Units,
  Update,
} from "./protocol.js";
import { IMAGE_KINDS, RING_KINDS, type ImageKind, type TopicKind } from "./schema.js";
import { topicOf } from "./topic.js";
import { shifted } from "./units.js";

/** Entries of a ring that are kept for a consumer that does not take them; as many trades as the server keeps. */
export const ENTRIES_KEPT = 1_024;

type Of<Kind extends Change["kind"]> = Extract<Change, { kind: Kind }>;

/**
 * Merges updates that a consumer has not taken yet, as the server does for a slow client: of an image the newest value of
 * each changed field, of a ring every entry in order, so that memory stays bounded however slow the consumer is.
 *
 * If a ring has more than `entries` entries waiting, the oldest are dropped, and count as missed at that position.
 * What a resumed session repeats is left out.
 */
export class Conflation {
  private readonly instruments = new Map<InstrumentNumber, Instrument>();
  private readonly images = new Map<string, ImageChange>();
  private readonly rings = new Map<string, Ring>();
  private readonly statuses = new Map<string, Of<"trading" | "feed" | "stats">>();
  /** Runs without a hole. */
  private readonly messages = new Map<string, Of<"messages">[]>();
  private readonly states = new Map<string, Of<"states">>();
  /** Topics that have joined or left, each with the last of these. */
  private readonly moves = new Map<string, Of<"joined"> | Of<"left">>();
  private newest: Omit<Update, "changes"> | null = null;
  private wasReset = false;

  /** @param lost receives entries that are dropped because more than `entries` wait */
  constructor(
    private readonly entries = ENTRIES_KEPT,
    private readonly lost: (topic: Topic, entries: number) => void = () => {},
  ) {}

  /** Whether there is nothing to take. */
  get empty(): boolean {
    const { instruments, images, rings, statuses, messages, states, moves } = this;
    const kept = [instruments, images, rings, statuses, messages, states, moves];
    return !this.wasReset && kept.every(({ size }) => size === 0);
  }

  add(update: Update): void {
    this.newest = update;
    for (const change of update.changes) this.merge(change);
  }

  /**
   * What has come since the last call, or null if nothing has. A reset comes first, then definitions.
   *
   * @param most definitions and images at most: a consumer that must not be busy for long takes the rest later
   */
  take(most = Infinity): Update | null {
    if (this.empty || !this.newest) return null;
    const changes: Change[] = this.wasReset ? [{ kind: "reset" }] : [];
    this.wasReset = false;
    for (const instrument of this.instruments.values()) {
      if (changes.length >= most) break;
      changes.push({ kind: "instrument", instrument });
      this.instruments.delete(instrument.number);
    }
    const known = (change: Change) =>
      !("instrument" in change) ||
      change.instrument === null ||
      !this.instruments.has(change.instrument.number);
    this.takeMoves("joined", known, changes);
    for (const [key, ring] of this.rings) {
      if (!known(ring.runs[0]!)) continue;
      changes.push(...ring.runs);
      this.rings.delete(key);
    }
    // After the last entries of its ring.
    this.takeMoves("left", known, changes);
    for (const [key, change] of this.images) {
      if (changes.length >= most) break;
      if (!known(change)) continue;
      changes.push(change);
      this.images.delete(key);
    }
    for (const [key, change] of this.statuses) {
      if (!known(change)) continue;
      changes.push(change);
      this.statuses.delete(key);
    }
    changes.push(...[...this.messages.values()].flat(), ...this.states.values());
    this.messages.clear();
    this.states.clear();
    return { ...this.newest, changes };
  }

  private takeMoves(
    kind: "joined" | "left",
    known: (change: Change) => boolean,
    to: Change[],
  ): void {
    for (const [key, change] of this.moves) {
      if (change.kind !== kind || !known(change)) continue;
      to.push(change);
      this.moves.delete(key);
    }
  }

  /** The entries of rings that wait; they stay. */
  waiting(): Run[] {
    return [...this.rings.values()].flatMap(({ runs }) => runs.map(copyOfRun));
  }

  /** The messages of channels that wait; they stay. */
  waitingMessages(): Change[] {
    return [...this.messages.values()].flat();
  }

  /** Drops everything, as when the server's tape is another one. */
  clear(): void {
    this.dropMarket();
    this.messages.clear();
    this.states.clear();
  }

  private dropMarket(): void {
    this.wasReset = false;
    for (const kept of [this.instruments, this.images, this.rings, this.statuses, this.moves])
      kept.clear();
  }

  private merge(change: Change): void {
    if (isImage(change)) {
      const key = keyOf(kindOf(change), change.instrument);
      const before = this.images.get(key);
      this.images.set(key, before ? newer(before, change) : change);
      return;
    }
    if (isRun(change)) return this.append(change);
    switch (change.kind) {
      case "reset":
        this.dropMarket();
        this.wasReset = true;
        break;
      case "instrument":
        this.define(change.instrument);
        break;
      case "trading":
        this.statuses.set(`trading:${change.instrument?.number ?? ""}`, change);
        break;
      case "joined":
      case "left": {
        const key = keyOf(change.topic, change.instrument);
        this.moves.set(key, change);
        if (change.kind === "joined") break;
        this.images.delete(key);
        if (change.topic === "status") this.statuses.delete(`trading:${change.instrument.number}`);
        break;
      }
      case "feed":
      case "stats":
        this.statuses.set(change.kind, change);
        break;
      case "messages":
        this.hear(change);
        break;
      case "states": {
        const before = change.whole ? undefined : this.states.get(change.channel);
        const { whole = change.whole, changed = {} } = before ?? {};
        this.states.set(change.channel, {
          ...change,
          whole,
          changed: { ...changed, ...change.changed },
        });
        break;
      }
      default:
        change satisfies never;
    }
  }

  private append(change: Run): void {
    if (entriesOf(change).length === 0 && change.missed === 0) return;
    const key = keyOf(kindOf(change), change.instrument);
    let ring = this.rings.get(key);
    if (!ring) this.rings.set(key, (ring = new Ring()));
    const lost = ring.append(change, this.entries);
    if (lost > 0) this.lost(ringTopic(change), lost);
  }

  private hear(change: Of<"messages">): void {
    if (change.messages.length === 0 && change.missed === 0) return;
    const { channel } = change;
    const runs = getOrInsert(this.messages, channel);
    const last = runs.at(-1);
    if (last && change.missed === 0)
      runs[runs.length - 1] = { ...last, messages: [...last.messages, ...change.messages] };
    else runs.push({ ...change, repeated: [] });
    const excess = runs.reduce((sum, { messages }) => sum + messages.length, 0) - this.entries;
    if (excess > 0) this.lost(topicOf("messages", channel), excess);
    for (let left = excess; left > 0;) {
      const [oldest, next] = runs as [Of<"messages">, ...Of<"messages">[]];
      const dropped = Math.min(left, oldest.messages.length);
      const missed = oldest.missed + dropped;
      left -= dropped;
      if (dropped < oldest.messages.length || !next) {
        const messages = oldest.messages.slice(dropped);
        runs[0] = { ...oldest, missed, messages, first: oldest.first + dropped };
        break;
      }
      runs.shift();
      runs[0] = { ...next, missed: missed + next.missed };
    }
  }

  /** Values that wait are in units of the old scales; their images are in the new ones already. */
  private define(instrument: Instrument): void {
    this.instruments.set(instrument.number, instrument);
    for (const kind of IMAGE_KINDS) {
      const key = keyOf(kind, instrument);
      const change = this.images.get(key);
      if (!change) continue;
      const image = imageOf(change) as Record<string, unknown>;
      const changed = Object.keys(change.changed).map((field) => [field, image[field]]);
      const merged = { ...change, instrument, changed: Object.fromEntries(changed) as object };
      this.images.set(key, merged as ImageChange);
    }
    for (const kind of RING_KINDS) this.rings.get(keyOf(kind, instrument))?.rescale(instrument);
  }
}

/** Entries of one ring: runs without a hole. */
class Ring {
  runs: Run[] = [];
  private length = 0;

  /** Returns how many entries were dropped. */
  append(change: Run, most: number): number {
    const last = this.runs.at(-1);
    const added = entriesOf(change);
    if (last && change.missed === 0 && next(last) === first(change))
      entriesOf(last).push(...(added as never[]));
    else this.runs.push(copyOfRun(change));
    this.length += added.length;
    // Only sometimes: each time copies what is kept.
    return this.length > 2 * most || this.runs.length > 2 * most ? this.trim(most) : 0;
  }

  rescale(instrument: Instrument): void {
    this.runs = this.runs.map((run) => rescaled(run, instrument));
  }

  private trim(most: number): number {
    const lost = Math.max(0, this.length - most);
    let excess = lost;
    let missed = 0;
    this.length -= lost;
    for (;;) {
      const run = this.runs[0]!;
      const dropped = Math.min(excess, entriesOf(run).length);
      missed += run.missed + dropped;
      excess -= dropped;
      if (dropped < entriesOf(run).length || this.runs.length === 1) {
        this.runs[0] = withoutFirst(run, dropped, missed);
        return lost;
      }
      this.runs.shift();
    }
  }
}

function withoutFirst(run: Run, dropped: number, missed: number): Run {
  return run.kind === "trades"
    ? { ...run, missed, trades: run.trades.slice(dropped) }
    : { ...run, missed, first: run.first + dropped, bars: run.bars.slice(dropped) };
}

/** Number of its first entry. Two successive runs may have a gap: a topic may have left in between. */
function first(run: Run): number | undefined {
  return run.kind === "trades" ? run.trades[0]?.number : run.first;
}

/** Number of the entry that would follow it. */
function next(run: Run): number | undefined {
  if (run.kind === "closed_bars") return run.first + run.bars.length;
  const last = run.trades.at(-1);
  return last && last.number + 1;
}

export function entriesOf(run: Run): (Trade | ClosedBar)[] {
  return (run.kind === "trades" ? run.trades : run.bars) as (Trade | ClosedBar)[];
}

/** A copy with its own list, without what is repeated. */
function copyOfRun(run: Run): Run {
  return run.kind === "trades"
    ? { ...run, repeated: [], trades: [...run.trades] }
    : { ...run, repeated: [], bars: [...run.bars] };
}

function rescaled(run: Run, instrument: Instrument): Run {
  const prices = instrument.price_scale - run.instrument.price_scale;
  const sizes = instrument.size_scale - run.instrument.size_scale;
  const by = (units: Units | null, digits: number) =>
    units === null ? null : (shifted(units, digits) as Units);
  if (run.kind === "trades") {
    const trades = run.trades.map((trade) => ({
      ...trade,
      price: by(trade.price, prices)!,
      size: by(trade.size, sizes)!,
    }));
    return { ...run, instrument, trades };
  }
  const bars = run.bars.map((bar) => {
    const finer = { ...bar };
    rescale(kindOf(run) as ImageKind, finer as object as Fields, prices, sizes);
    return finer;
  });
  return { ...run, instrument, bars };
}

function newer(before: ImageChange, after: ImageChange): ImageChange {
  const was = before.changed as { previous_close?: Units | null };
  // A new start begins a new bar without the fields before; the previous close belongs to the day.
  const isNew = "start" in after.changed;
  const { previous_close } = was;
  const kept = !isNew ? was : previous_close === undefined ? {} : { previous_close };
  const changed = { ...kept, ...after.changed } as ImageFields;
  return imageChange(kindOf(after), after.instrument, changed, imageOf(after));
}

/** The topic of one instrument that a run is of. */
export function ringTopic(run: Run): Topic {
  return topicOf(kindOf(run), run.instrument.symbol);
}

function getOrInsert<V>(map: Map<string, V[]>, key: string): V[] {
  let list = map.get(key);
  if (!list) map.set(key, (list = []));
  return list;
}

function keyOf(kind: TopicKind, { number }: Instrument): string {
  return `${kind}:${number}`;
}
