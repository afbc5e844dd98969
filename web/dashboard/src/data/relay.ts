import {
  type Change,
  type ClientEvents,
  type Clock,
  type Epoch,
  type FurtherSession,
  type Image,
  type Instrument,
  type InstrumentNumber,
  type Post,
  type TickcastClient,
  type Topic,
  type Update,
  imageChange,
  isRun,
  kindOf,
  symbolOf,
  topicOf,
} from "@tickcast/client";
import type { Condition, Opened, ToPage, ToRelay } from "./messages.js";
import { Meter } from "./meter.js";
import { SharedDemand } from "./shared-demand.js";
import { Tab, type Moment, type Port } from "./tab.js";
import type { Timing } from "./timing.js";

type From = "watched" | "universe";
/** What both sessions have in common. */
type SessionLike = Pick<FurtherSession, "on" | "requestStats">;

/** The topics of the universe: enough to sort, rank and colour all of it. */
const UNIVERSE: readonly Topic[] = ["day:*", "status:*", "status"];
const UNIVERSE_HZ = 1;
/** While all pages are hidden. */
const HIDDEN_HZ = 1;
const HIDDEN_UNIVERSE_HZ = 0.1;
const TICK_MS = 1_000;

/**
 * The one end of the connection that all pages of a browser share. It lives in a worker: here updates are decoded and merged,
 * and each page gets one batch per frame that it draws.
 *
 * There are two sessions on the connection, since a rate cap is a session's: `universe` has the day of every instrument once a
 * second, by which the pages sort, rank and colour, and `watched` has what is in sight as fast as it can be drawn. One session for
 * both would have to send 10,000 instruments sixty times a second, or those in sight once a second. Fetching the universe by
 * HTTP instead would bring the same bytes once, and every second again or never.
 */
export class Relay {
  private readonly tabs = new Set<Tab>();
  private readonly definitions = new Map<InstrumentNumber, Instrument>();
  private readonly bySymbol = new Map<string, InstrumentNumber>();
  private readonly demand: SharedDemand;
  private readonly meter: Meter;
  /** Of the tape that the pages receive. */
  private epoch: Epoch | null = null;
  /** What the pages received is void: the tape is another one, or was set to another moment. */
  private anew = true;

  /** @param origin when `clock` was at 0, in ms since 1970 */
  constructor(
    private readonly watched: TickcastClient,
    private readonly universe: FurtherSession,
    private readonly timing: Pick<Timing, "due">,
    private readonly clock: Clock,
    private readonly origin: number,
  ) {
    this.demand = new SharedDemand(watched, clock);
    this.meter = new Meter(watched, [watched, universe], clock);
    watched.on("update", (update) => this.receive("watched", update));
    universe.on("update", (update) => this.receive("universe", update));
    watched.on("state", () => this.tellCondition(this.tabs));
    for (const session of [watched, universe] as readonly SessionLike[]) {
      session.on("replaced", () => (this.anew = true));
      session.on("gap", (gap) => this.tellGap(gap));
      session.on("error", (error) => this.tell({ kind: "error", error }));
      session.requestStats(true);
    }
    watched.on("replaced", () => {
      for (const history of this.demand.histories.values()) history.clear();
    });
    universe.subscribe(UNIVERSE, { maxHz: UNIVERSE_HZ });
    watched.setMaxHz(HIDDEN_HZ);
    this.tick();
  }

  connect(): void {
    this.watched.connect();
  }

  attach(port: Port<ToPage>): Tab {
    const tab = new Tab(port);
    this.tabs.add(tab);
    this.tellCondition([tab]);
    this.tellAll(tab);
    tab.flush();
    return tab;
  }

  detach(tab: Tab): void {
    if (this.tabs.delete(tab)) this.follow();
  }

  handle(tab: Tab, message: ToRelay): void {
    if (!this.tabs.has(tab)) return;
    switch (message.kind) {
      case "demand": {
        const { open, topics } = tab.demand;
        const fresh = tab.ask(message.demand);
        this.tellKnown(tab, fresh);
        this.tellOpen(tab, open);
        this.tellTopics(tab, topics);
        this.follow();
        tab.flush();
        break;
      }
      case "drawn":
        tab.hasDrawn();
        break;
      case "verify":
        void this.verify(tab, message.id, message.topics);
        break;
      case "post":
        void this.post(tab, message.id, message.post);
        break;
      case "reconnect":
        this.watched.reconnectNow();
        break;
      case "goodbye":
        this.detach(tab);
        break;
      case "hello":
      case "alive":
        break;
    }
  }

  private follow(): void {
    this.setRates();
    this.demand.follow([...this.tabs].map(({ demand }) => demand));
  }

  private setRates(): void {
    const shown = [...this.tabs].filter(({ demand }) => !demand.hidden);
    const hz = Math.max(...shown.map(({ demand }) => demand.hz));
    this.universe.setMaxHz(shown.length > 0 ? UNIVERSE_HZ : HIDDEN_UNIVERSE_HZ);
    this.watched.setMaxHz(shown.length > 0 ? hz : HIDDEN_HZ);
  }

  private receive(from: From, update: Update): void {
    if (from === "watched") for (const change of update.changes) this.remember(change, update);
    if (this.anew) return this.beginAnew(); // this update is sent with the rest
    const changes = update.changes.flatMap((change) => this.checked(from, change));
    const due = from === "watched" && changes.length > 0 ? this.timing.due(update.time) : null;
    for (const tab of this.tabs) {
      const wanted = changes.filter((change) => this.concerns(tab, change, from));
      tab.add(wanted, update, from);
      if (due !== null && wanted.length > 0) tab.addDue(due);
      tab.flush();
    }
  }

  /** Both sessions define an instrument, and one may have a finer scale before the other. */
  private checked(from: From, change: Change): Change[] {
    if (change.kind !== "instrument") {
      if (!("instrument" in change) || !change.instrument) return [change];
      const known = this.definitions.get(change.instrument.number);
      return !known || sameScales(known, change.instrument) ? [change] : [];
    }
    const { instrument } = change;
    const known = this.definitions.get(instrument.number);
    this.define(instrument);
    if (!known) return [change];
    const same = sameFields(known, instrument);
    // What is kept of it is now in other units.
    return [...(same ? [] : [change]), ...wholeImages(this[from].image, instrument)];
  }

  private concerns(tab: Tab, change: Change, from: From): boolean {
    switch (change.kind) {
      case "instrument":
        return true;
      case "quote":
        return from === "watched" && tab.watches(change.instrument.symbol);
      case "day": {
        const { symbol, number } = change.instrument;
        // What the fast session sends is not sent again later.
        const watched = tab.watches(symbol) && this.watched.image.bar("day", number) !== undefined;
        return watched === (from === "watched");
      }
      case "trades":
      case "closed_bars":
      case "bar":
        return tab.opens(change);
      case "trading":
      case "feed":
        return from === "universe";
      case "reset":
        return false; // pages start over with it
      case "joined":
      case "left":
        return false; // of sectors, of which no page subscribes any
      case "stats":
        return tab.demand.topics.includes("stats");
      case "watchers":
        return tab.demand.topics.includes(topicOf(change.kind, change.instrument.symbol));
      case "messages":
      case "states":
        return tab.demand.topics.includes(topicOf(change.kind, change.channel));
      default:
        return change satisfies never;
    }
  }

  private remember(change: Change, update: Moment): void {
    if (change.kind !== "messages" && !isRun(change)) return;
    const topic =
      change.kind === "messages"
        ? topicOf(change.kind, change.channel)
        : topicOf(kindOf(change), change.instrument.symbol);
    const { position, time } = update;
    const changes = [change];
    this.demand.histories.get(topic)?.add({ type: "update", position, time, whole: true, changes });
  }

  /** Both sessions have dropped what they knew, at once: what they know is of the tape's current position. */
  private beginAnew(): void {
    this.anew = false;
    this.epoch = this.watched.image.epoch;
    this.definitions.clear();
    this.bySymbol.clear();
    for (const { image } of [this.universe, this.watched])
      for (const instrument of image.all()) this.define(instrument);
    for (const tab of this.tabs) {
      tab.replace();
      this.tellAll(tab);
      tab.flush();
    }
  }

  private define(instrument: Instrument): void {
    this.definitions.set(instrument.number, instrument);
    this.bySymbol.set(instrument.symbol, instrument.number);
  }

  /** Sends everything that is known to a page that knows nothing. */
  private tellAll(tab: Tab): void {
    const { image } = this.universe;
    const changes: Change[] = [];
    for (const instrument of this.definitions.values()) {
      changes.push({ kind: "instrument", instrument });
      changes.push(...wholeImages(image, instrument));
      const status = image.trading(instrument.number);
      if (status) changes.push({ kind: "trading", instrument, status });
    }
    const market = image.trading(null);
    if (market) changes.push({ kind: "trading", instrument: null, status: market });
    if (image.feed) changes.push({ kind: "feed", feed: image.feed });
    tab.add(changes, image, "universe");
    this.tellKnown(tab, tab.watching);
    this.tellOpen(tab);
    this.tellTopics(tab);
  }

  /** What `watched` has of these already: it comes by itself only if it was not subscribed before. */
  private tellKnown(tab: Tab, symbols: readonly string[]): void {
    const { image } = this.watched;
    const changes = symbols.flatMap((symbol) => {
      const number = this.bySymbol.get(symbol);
      const instrument = number === undefined ? undefined : image.instrument(number);
      return instrument && tab.watches(symbol) ? wholeImages(image, instrument) : [];
    });
    if (changes.length > 0) tab.add(changes, image, "watched");
  }

  /** @param before what it had open, and has the entries of */
  private tellOpen(tab: Tab, before: Opened | null = null): void {
    const { open } = tab.demand;
    if (!open) return;
    const another = open.serial !== before?.serial;
    if (another) this.tellHistory(tab, topicOf("trades", open.symbol));
    if (another || open.interval !== before?.interval)
      this.tellHistory(tab, topicOf(`bars.${open.interval}`, open.symbol));
  }

  private tellHistory(tab: Tab, topic: Topic): void {
    const history = this.demand.histories.get(topic);
    const { image } = this.watched;
    const number = this.bySymbol.get(symbolOf(topic) ?? "");
    const instrument = number === undefined ? undefined : image.instrument(number);
    if (!history || !instrument) return;
    const runs: Change[] = history.waiting();
    // The page has had nothing before the first that is kept.
    if (runs[0]) runs[0] = { ...runs[0], missed: 0 } as Change;
    const interval = topic.startsWith("bars.1s") ? "1s" : topic.startsWith("bars.1m") ? "1m" : null;
    const bar = interval && image.bar(interval, instrument.number);
    if (interval && bar) runs.push({ kind: "bar", instrument, interval, changed: bar, bar });
    tab.add(runs, image, "watched");
  }

  /** @param before those that it had */
  private tellTopics(tab: Tab, before: readonly Topic[] = []): void {
    const { image } = this.watched;
    const fresh = tab.demand.topics.filter((topic) => !before.includes(topic));
    const changes = fresh.flatMap((topic) => this.knownOf(topic));
    if (changes.length > 0) tab.add(changes, image, "watched");
  }

  /** What another page has of a topic, for one that wants it as well. */
  private knownOf(topic: Topic): Change[] {
    const { image } = this.watched;
    const name = symbolOf(topic) ?? "";
    const history = this.demand.histories.get(topic);
    if (history) return history.waitingMessages();
    if (topic.startsWith("states:")) {
      const changed = Object.fromEntries(image.states(name));
      return [{ kind: "states", channel: name, whole: true, changed }];
    }
    const number = this.bySymbol.get(name);
    const instrument = number === undefined ? undefined : image.instrument(number);
    const watchers = instrument && image.fields("watchers", instrument.number);
    if (!topic.startsWith("watchers:") || !instrument || !watchers) return [];
    return [imageChange("watchers", instrument, watchers, watchers)];
  }

  private async post(tab: Tab, id: number, post: Post): Promise<void> {
    const answer = { kind: "posted", id } as const;
    try {
      await this.watched.publish(post);
      tab.port.postMessage({ ...answer, failure: null });
    } catch (error) {
      const failure = error instanceof Error ? error.message : String(error);
      tab.port.postMessage({ ...answer, failure });
    }
  }

  private async verify(tab: Tab, id: number, topics: readonly Topic[]): Promise<void> {
    const answer = { kind: "verified", id } as const;
    try {
      const watched = topics.filter((topic) => this.demand.wants(topic));
      if (watched.length === 0) throw new Error("nothing of that is watched");
      const results = await this.watched.verify(watched);
      const { position } = this.watched.image;
      tab.port.postMessage({ ...answer, position, results, failure: null });
    } catch (error) {
      const failure = error instanceof Error ? error.message : String(error);
      tab.port.postMessage({
        ...answer,
        position: this.watched.image.position,
        results: [],
        failure,
      });
    }
  }

  private tellGap(gap: ClientEvents["gap"]): void {
    const symbol = symbolOf(gap.topic);
    for (const tab of this.tabs)
      if (tab.demand.open?.symbol === symbol) tab.port.postMessage({ kind: "gap", gap });
  }

  private tell(message: ToPage): void {
    for (const { port } of this.tabs) port.postMessage(message);
  }

  private tick(): void {
    this.meter.measure();
    this.tellCondition([...this.tabs].filter(({ demand }) => !demand.hidden));
    this.clock.after(TICK_MS, () => this.tick());
  }

  private tellCondition(tabs: Iterable<Tab>): void {
    const condition = this.condition();
    for (const { port } of tabs) port.postMessage({ kind: "condition", condition });
  }

  private condition(): Condition {
    const { universe, watched, meter } = this;
    return {
      state: this.onWallClock(watched.state),
      session: watched.session,
      transport: watched.transport,
      epoch: this.epoch,
      feed: universe.image.feed,
      counters: meter.counters,
      rates: meter.rates,
      lag_ms: meter.lag_ms,
      topics: this.demand.topics + UNIVERSE.length,
    };
  }

  private onWallClock(state: Condition["state"]): Condition["state"] {
    if (state.kind === "stale") return { ...state, heard_at: this.origin + state.heard_at };
    if (state.kind === "reconnecting" && state.retry_at !== null)
      return { ...state, retry_at: this.origin + state.retry_at };
    return state;
  }
}

/** All that a session has of an instrument, as changes. */
function wholeImages(image: Image, instrument: Instrument): Change[] {
  const quote = image.quote(instrument.number);
  const day = image.bar("day", instrument.number);
  return [
    ...(quote ? [{ kind: "quote", instrument, changed: quote, quote } as const] : []),
    ...(day ? [{ kind: "day", instrument, changed: day, day } as const] : []),
  ];
}

function sameScales(a: Instrument, b: Instrument): boolean {
  return a.price_scale === b.price_scale && a.size_scale === b.size_scale;
}

function sameFields(a: Instrument, b: Instrument): boolean {
  return (Object.keys(a) as (keyof Instrument)[]).every((field) => a[field] === b[field]);
}
