import { Conflation, topicOf, type Clock, type TickcastClient, type Topic } from "@tickcast/client";
import type { Demand } from "./messages.js";

/** Symbols that are watched at most, over all pages: each is two topics. */
export const WATCHED_MOST = 400;
/** Out of the 1,024 that a session may have. */
const TOPICS_MOST = 1_000;
/** For how long what has scrolled out of sight is still subscribed: it may scroll back. */
export const LINGER_MS = 2_000;

/** What all pages want together, as subscriptions of one session. */
export class SharedDemand {
  /** Entries of what is open, for a page that opens the same. */
  readonly histories = new Map<Topic, Conflation>();
  /** The topics of the session, and since when those are not wanted any more. */
  private readonly subscribed = new Map<Topic, number | null>();
  private lingering = false;

  constructor(
    private readonly client: TickcastClient,
    private readonly clock: Clock,
  ) {}

  get topics(): number {
    return this.subscribed.size;
  }

  wants(topic: Topic): boolean {
    return this.subscribed.get(topic) === null;
  }

  /** Subscribes to what is new in these demands, and unsubscribes from what is in none of them any more. */
  follow(demands: readonly Demand[]): void {
    const now = this.clock.now();
    const wanted = topicsOf(demands);
    for (const [topic, left] of this.subscribed)
      this.subscribed.set(topic, wanted.has(topic) ? null : (left ?? now));
    const added = [...wanted].filter((topic) => !this.subscribed.has(topic));
    for (const topic of added) {
      this.subscribed.set(topic, null);
      if (/^(trades|bars\.1[sm]|messages):/.test(topic))
        this.histories.set(topic, new Conflation());
    }
    this.end(now);
    if (added.length > 0) this.client.subscribe(added);
  }

  /** Unsubscribes from what was not wanted for a while; sooner if room is needed. */
  private end(now: number): void {
    const left = [...this.subscribed]
      .filter((entry): entry is [Topic, number] => entry[1] !== null)
      .sort(([, a], [, b]) => a - b);
    const excess = this.subscribed.size - 2 * WATCHED_MOST;
    const ended = left.filter(([, since], i) => i < excess || now - since >= LINGER_MS);
    for (const [topic] of ended) {
      this.subscribed.delete(topic);
      this.histories.delete(topic);
    }
    this.client.unsubscribe(ended.map(([topic]) => topic));
    const next = left[ended.length];
    if (!next || this.lingering) return;
    this.lingering = true;
    this.clock.after(Math.max(1, next[1] + LINGER_MS - now), () => {
      this.lingering = false;
      this.end(this.clock.now());
    });
  }
}

/** What is open comes first; what is watched only as far as there is room. */
function topicsOf(demands: readonly Demand[]): Set<Topic> {
  const topics = new Set<Topic>();
  for (const { open, topics: others } of demands) {
    if (topics.size >= TOPICS_MOST - 2 * WATCHED_MOST) break;
    if (open)
      for (const kind of ["trades", `bars.${open.interval}`, "quote", "day"])
        topics.add(topicOf(kind, open.symbol));
    for (const topic of others) topics.add(topic);
  }
  const most = topics.size + 2 * WATCHED_MOST;
  for (const { watched, hidden } of demands)
    for (const symbol of hidden ? [] : watched) {
      if (topics.size >= most) return topics;
      topics.add(topicOf("quote", symbol)).add(topicOf("day", symbol));
    }
  return topics;
}
