/**
 * The topics a client wants, and the progress of each.
 *
 * Pure. Invariant: a topic is complete only once a flush has ended after the server granted it, and stays so over lost
 * connections until it is given up or the image is dropped.
 */

import type { Instrument, Topic } from "./protocol.js";
import { topicOf } from "./topic.js";

/**
 * Which topics the application wants, which the running session delivers, and which images are complete,
 * so that after a lost connection only their changes need to come.
 */
export class Subscriptions {
  readonly wanted = new Set<Topic>();
  private readonly delivered = new Set<Topic>();
  private readonly whole = new Set<Topic>();

  /** Wanted topics: those whose image is complete can be resumed, the others begin with a snapshot. */
  split(): { resumable: Topic[]; fresh: Topic[] } {
    const topics = [...this.wanted];
    return {
      resumable: topics.filter((topic) => this.whole.has(topic)),
      fresh: topics.filter((topic) => !this.whole.has(topic)),
    };
  }

  accepted(topic: Topic): void {
    this.delivered.add(topic);
  }

  ended(topic: Topic): void {
    this.delivered.delete(topic);
    this.whole.delete(topic);
  }

  /** Unwanted topics with state: the session has not confirmed their end yet. */
  givenUp(): Topic[] {
    return [...new Set([...this.delivered, ...this.whole])].filter(
      (topic) => !this.wanted.has(topic),
    );
  }

  sessionEnded(): void {
    this.delivered.clear();
  }

  /** A flush ended: all that was pending for the session's topics has come. */
  caughtUp(): void {
    for (const topic of this.delivered) this.whole.add(topic);
  }

  imageDropped(): void {
    this.whole.clear();
  }

  /** Whether all that was pending for `kind` of an instrument, or of a channel by its name, has come. */
  isWhole(kind: string, of: Instrument | string): boolean {
    return topicsOf(kind, of).some((topic) => this.whole.has(topic));
  }

  /** Whether what is kept of `kind` of an instrument, or of a channel by its name, is of any use still. */
  covers(kind: string, of: Instrument | string | null): boolean {
    return topicsOf(kind, of).some(
      (topic) => this.delivered.has(topic) || (this.wanted.has(topic) && this.whole.has(topic)),
    );
  }
}

/** The topics that include `kind` of an instrument or a channel, null being the entire market. */
export function topicsOf(kind: string, of: Instrument | string | null): Topic[] {
  if (of === null) return [kind];
  if (typeof of === "string") return [topicOf(kind, of)];
  const instrument = of;
  return [topicOf(kind, instrument.symbol), `${kind}:@${instrument.sector}`, `${kind}:*`];
}
