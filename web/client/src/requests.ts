/**
 * The queued requests of a session.
 *
 * Topics that are subscribed and unsubscribed one by one go together in one request per task, what is undone before it
 * was sent is not sent at all, and the requests of all sessions of a connection stay below the rate that the server allows.
 *
 * Pure: the time is passed in. Invariant: what was passed in before a {@link Requests.push} is sent
 * before it, and `asked` is what the server will deliver once the queue is sent.
 */

import type { Request, Topic } from "./protocol.js";

/** In one request. Symbols have at most 128 bytes, so this stays well below the limit of a message. */
const TOPICS_PER_REQUEST = 256;
/** Share of the allowed rate that is used: the server counts requests a little later, in another rhythm. */
const PACE = 0.8;
const USUAL_PER_SECOND = 50;

/** What to send: a request to subscribe gets its final form when it is sent. */
export type Outgoing =
  | { readonly op: "subscribe" | "unsubscribe"; readonly topics: readonly Topic[] }
  | { readonly request: Request; readonly id: number };

/** How many requests a connection may make, over all its sessions. */
export class RequestRate {
  private perSecond = 0;
  private tokens = 0;
  private countedAt = 0;
  /** Until then the rate allows nothing. */
  private waitsUntil: number | null = null;

  /** A connection begins that allows that many requests a second. */
  begin(now: number, perSecond: number | undefined): void {
    this.perSecond = PACE * (perSecond && perSecond > 0 ? perSecond : USUAL_PER_SECOND);
    this.tokens = this.most;
    this.countedAt = now;
  }

  /** It has ended: nothing is sent any more. */
  end(): void {
    this.perSecond = 0;
    this.waitsUntil = null;
  }

  /** When more is allowed, if something waits for that. */
  get due(): number {
    return this.waitsUntil ?? Infinity;
  }

  allowsNothing(now: number): boolean {
    return this.perSecond === 0 || now < (this.waitsUntil ?? now);
  }

  /** Takes one of those that are allowed; false if the next one has to wait. */
  take(now: number): boolean {
    this.waitsUntil = null;
    const earned = ((now - this.countedAt) / 1000) * this.perSecond;
    this.tokens = Math.min(this.most, this.tokens + earned);
    this.countedAt = now;
    if (this.tokens < 1) {
      const wait = Math.ceil(((1 - this.tokens) / this.perSecond) * 1000);
      this.waitsUntil = now + Math.max(1, wait);
      return false;
    }
    this.tokens--;
    return true;
  }

  private get most(): number {
    return Math.max(1, this.perSecond / 2);
  }
}

export class Requests {
  /** In order; those of topics are gathered at the end. */
  private queue: Outgoing[] = [];
  private gathered = newGathered();
  /** What the server delivers, or was asked to, once the queue is sent. */
  private readonly asked = new Set<Topic>();
  /** A turn is wanted: what is passed in until it comes goes out together. */
  private turn: "none" | "wanted" | "announced" = "none";

  constructor(private readonly rate: RequestRate) {}

  /** The session has ended: nothing is sent any more. */
  end(): void {
    this.queue = [];
    this.gathered = newGathered();
    this.asked.clear();
  }

  /** Whether a task is to be announced for what waits: once for each. */
  announceTurn(): boolean {
    if (this.turn !== "wanted") return false;
    this.turn = "announced";
    return true;
  }

  /** The announced task has come. */
  turned(): void {
    this.turn = "none";
  }

  subscribe(topics: readonly Topic[]): void {
    for (const topic of topics) this.gathered.subscribe.add(topic);
    this.schedule();
  }

  unsubscribe(topics: readonly Topic[]): void {
    for (const topic of topics) {
      this.gathered.subscribe.delete(topic);
      if (this.asked.has(topic)) this.gathered.unsubscribe.add(topic);
    }
    this.schedule();
  }

  /** The server does not deliver it. Returns whether it is requested again. */
  refused(topic: Topic): boolean {
    const again =
      this.gathered.subscribe.has(topic) ||
      this.queue.some(
        (next) => "op" in next && next.op === "subscribe" && next.topics.includes(topic),
      );
    if (!again) this.asked.delete(topic);
    return again;
  }

  /** After all earlier requests. */
  push(request: Request, id: number): void {
    this.close();
    this.queue.push({ request, id });
    if (request.op === "subscribe") for (const topic of request.topics) this.asked.add(topic);
    this.schedule();
  }

  /** What may be sent now; null if nothing waits, or until the rate allows more. */
  next(now: number): Outgoing | null {
    if (this.rate.allowsNothing(now)) return null;
    if (this.queue.length === 0) this.close();
    if (this.queue.length === 0 || !this.rate.take(now)) return null;
    return this.queue.shift()!;
  }

  /** What is gathered can no longer be undone. */
  private close(): void {
    const { subscribe, unsubscribe } = this.gathered;
    this.gathered = newGathered();
    // Unsubscribing first makes room for what is wanted instead.
    for (const topics of chunks(unsubscribe)) this.queue.push({ op: "unsubscribe", topics });
    for (const topics of chunks(subscribe)) this.queue.push({ op: "subscribe", topics });
    for (const topic of unsubscribe) this.asked.delete(topic);
    for (const topic of subscribe) this.asked.add(topic);
  }

  private schedule(): void {
    if (this.turn === "none") this.turn = "wanted";
  }
}

function newGathered() {
  return { subscribe: new Set<Topic>(), unsubscribe: new Set<Topic>() };
}

export function chunks(topics: Iterable<Topic>): Topic[][] {
  const all = [...topics];
  return Array.from({ length: Math.ceil(all.length / TOPICS_PER_REQUEST) }, (_, i) =>
    all.slice(i * TOPICS_PER_REQUEST, (i + 1) * TOPICS_PER_REQUEST),
  );
}
