/**
 * From the image to the application: each handler receives updates at its own pace.
 *
 * The part of the shell that calls handlers; what is pending for one is in the pure {@link "./pending".Pending}.
 * Invariant: a handler is called with one update at a time, and never with a backlog.
 */

import type { Clock } from "./clock.js";
import { isImage, isRun } from "./change.js";
import { ringTopic } from "./conflation.js";
import { surface } from "./emitter.js";
import type { Happening } from "./io.js";
import { Pending } from "./pending.js";
import type { Change, Topic, Update } from "./protocol.js";
import { topicOf } from "./topic.js";

/** May return a promise: then it receives nothing more before that is settled. */
export type UpdateHandler = (update: Update) => unknown;

export interface DeliveryEvents {
  /** What updates carried other than prices: in order, after those updates. */
  happened(happening: Announcement): void;
  /** Entries of a ring were missed, or a handler was too slow for them and does not receive them. */
  gap(topic: Topic, missed: number): void;
  /** Handlers have received something, or have finished with it. */
  settled(): void;
}

export type Announcement = Extract<
  Happening,
  { type: "status" | "server" | "messages" | "states" }
>;

/** For how long the age of a handler's last delivery counts as its lag. */
const RECENT_MS = 1_000;
/** A handler that takes longer blocks frames that have already arrived. */
const BLOCKING_MS = 5;

/**
 * Takes updates as they are decoded, and delivers them in a separate task, so that all
 * that has arrived by then is merged first. What comes while a handler is busy is merged for it.
 */
export class Deliveries {
  private readonly consumers = new Set<Consumer>();
  private announcements: Change[] = [];
  private scheduled = false;
  /** When a handler began that has just ended: what is read now may have arrived since. */
  private blockedSince: number | null = null;

  constructor(
    private readonly clock: Required<Clock>,
    private readonly events: DeliveryEvents,
  ) {}

  /** Calls `handler` for what comes from now on, until the returned function is called. */
  add(handler: UpdateHandler): () => void {
    const consumer = this.consumer(handler);
    return () => this.consumers.delete(consumer);
  }

  /** @param entries of a ring that wait at most */
  loop(entries?: number): Loop {
    let loop: Loop | null = null;
    const consumer = this.consumer((update) => loop?.hand(update), { entries, asks: true });
    loop = new Loop(consumer, () => this.consumers.delete(consumer));
    return loop;
  }

  private consumer(handler: UpdateHandler, options: ConsumerOptions = {}): Consumer {
    const lost = (topic: Topic, entries: number) => this.events.gap(topic, entries);
    const ready = () => {
      this.schedule();
      this.events.settled();
    };
    const consumer = new Consumer(handler, this.clock, lost, options, ready);
    this.consumers.add(consumer);
    return consumer;
  }

  fold(update: Update): void {
    const arrivedAt = this.blockedSince ?? this.clock.now();
    for (const consumer of this.consumers) consumer.add(update, arrivedAt);
    for (const change of update.changes) if (isAnnounced(change)) this.announcements.push(change);
    this.schedule();
  }

  /** Delivers what is pending now to the handlers that are not busy: what follows must not overtake it. */
  flush(): void {
    const startedAt = this.clock.now();
    for (const consumer of this.consumers) consumer.deliver();
    const announced = this.announcements;
    this.announcements = [];
    for (const change of announced) this.announce(change);
    if (this.clock.now() - startedAt > BLOCKING_MS) {
      this.blockedSince ??= startedAt;
      this.clock.soon(() => (this.blockedSince = null));
    }
    this.events.settled();
  }

  /** Everything pending is void: entries of rings that busy handlers did not receive are reported as lost. */
  drop(): void {
    for (const consumer of this.consumers) consumer.drop();
  }

  /** What is pending goes only to consumers that ask for it. */
  close(): void {
    this.announcements = [];
    for (const consumer of this.consumers) consumer.close();
  }

  /** Age in the client of the oldest that handlers have or that is pending for them, in ms. */
  behind(): number {
    return Math.max(0, ...[...this.consumers].map((consumer) => consumer.behind()));
  }

  private announce(change: Change): void {
    if (isRun(change)) return this.events.gap(ringTopic(change), change.missed);
    if (isImage(change)) return;
    switch (change.kind) {
      case "trading":
      case "feed":
        return this.events.happened({ kind: "event", type: "status", event: change });
      case "stats":
        return this.events.happened({ kind: "event", type: "server", event: change.stats });
      case "messages":
        this.events.gap(topicOf("messages", change.channel), change.missed);
        return this.events.happened({ kind: "event", type: "messages", event: change });
      case "states":
        return this.events.happened({ kind: "event", type: "states", event: change });
      case "reset":
      case "instrument":
      case "joined":
      case "left":
        return;
      default:
        change satisfies never;
    }
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    this.clock.soon(() => {
      this.scheduled = false;
      this.flush();
    });
  }
}

/** A consumer that asks for each update. */
export class Loop {
  private answer: ((update: Update | null) => void) | null = null;

  constructor(
    private readonly consumer: Consumer,
    readonly stop: () => void,
  ) {}

  /** What has come, as soon as there is something; null if {@link wake} comes first. */
  next(): Promise<Update | null> {
    return new Promise((resolve) => {
      this.answer = resolve;
      this.consumer.done();
    });
  }

  /** What waits now. */
  take(): Update | null {
    return this.consumer.take();
  }

  wake(): void {
    if (!this.answer) return;
    this.consumer.pause();
    this.hand(null);
  }

  hand(update: Update | null): void {
    const { answer } = this;
    this.answer = null;
    answer?.(update);
  }
}

interface ConsumerOptions {
  /** Entries of a ring that wait at most. */
  entries?: number | undefined;
  /** It asks for each update: what it does in between, and whether it asks again, is unknown. */
  asks?: boolean;
}

/** One handler: what is pending for it, and what it has. */
class Consumer {
  private readonly pending: Pending;
  private busy: boolean;
  /** When the oldest of what the handler has arrived; null if it has nothing. */
  private heldSince: number | null = null;
  private last = { age: 0, at: -Infinity };

  constructor(
    private readonly handler: UpdateHandler,
    private readonly clock: Clock,
    lost: (topic: Topic, entries: number) => void,
    private readonly options: ConsumerOptions,
    /** It can receive more. */
    private readonly ready: () => void,
  ) {
    this.pending = new Pending(options.entries, lost);
    this.busy = options.asks ?? false;
  }

  add(update: Update, arrivedAt: number): void {
    // A loop skips heartbeats.
    if (this.options.asks && update.changes.length === 0) return;
    this.pending.add(update, arrivedAt);
  }

  deliver(): void {
    if (this.busy) return;
    const arrivedAt = this.pending.since;
    const update = this.take();
    if (!update) return;
    this.busy = true;
    this.heldSince = arrivedAt;
    let result: unknown;
    try {
      result = this.handler(update);
    } catch (error) {
      surface(error);
    }
    if (this.options.asks) return;
    if (!isPromise(result)) return this.finish();
    result.then(
      () => this.done(),
      (error: unknown) => {
        surface(error);
        this.done();
      },
    );
  }

  /** The handler has finished with what it had. */
  done(): void {
    this.finish();
    this.ready();
  }

  pause(): void {
    this.busy = true;
  }

  /** All that is pending, as one update. */
  take(): Update | null {
    return this.pending.take();
  }

  drop(): void {
    this.pending.drop();
  }

  close(): void {
    if (!this.options.asks) this.take();
  }

  behind(): number {
    const now = this.clock.now();
    if (this.heldSince !== null && !this.options.asks) return now - this.heldSince;
    return now - this.last.at <= RECENT_MS ? this.last.age : 0;
  }

  private finish(): void {
    const now = this.clock.now();
    if (this.heldSince !== null) this.last = { age: now - this.heldSince, at: now };
    this.heldSince = null;
    this.busy = false;
  }
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | undefined)?.then === "function";
}

function isAnnounced(change: Change): boolean {
  if (isRun(change)) return change.missed > 0;
  if (isImage(change)) return false;
  switch (change.kind) {
    case "trading":
    case "feed":
    case "stats":
    case "messages":
    case "states":
      return true;
    case "reset":
    case "instrument":
    case "joined":
    case "left":
      return false;
    default:
      return change satisfies never;
  }
}
