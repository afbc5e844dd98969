import type { Instrument, Topic } from "./protocol.js";

/**
 * Which topics the application wants, which the running session delivers, and of which the image is
 * whole, so that after a lost connection only its changes need to come.
 */
export class Subscriptions {
  readonly wanted = new Set<Topic>();
  private readonly delivered = new Set<Topic>();
  private readonly whole = new Set<Topic>();

  /** Wanted topics: those whose image is whole can be resumed, the others begin with a snapshot. */
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

  /** Topics that something is known of, and that are not wanted any more: the session had not said yet that they have ended. */
  givenUp(): Topic[] {
    return [...new Set([...this.delivered, ...this.whole])].filter(
      (topic) => !this.wanted.has(topic),
    );
  }

  sessionEnded(): void {
    this.delivered.clear();
  }

  /** A flush ended: all that the session's topics were owed has come. */
  caughtUp(): void {
    for (const topic of this.delivered) this.whole.add(topic);
  }

  imageDropped(): void {
    this.whole.clear();
  }

  /** Whether all that `kind` of `instrument` was owed has come. */
  isWhole(kind: string, instrument: Instrument): boolean {
    return topicsOf(kind, instrument).some((topic) => this.whole.has(topic));
  }

  /** Whether what is kept of `kind` of `instrument` is of any use still. */
  covers(kind: string, instrument: Instrument | null): boolean {
    return topicsOf(kind, instrument).some(
      (topic) => this.delivered.has(topic) || (this.wanted.has(topic) && this.whole.has(topic)),
    );
  }
}

/** The topics that include `kind` of `instrument`, null being the market as a whole. */
export function topicsOf(kind: string, instrument: Instrument | null): Topic[] {
  if (instrument === null) return [kind];
  return [`${kind}:${instrument.symbol}`, `${kind}:@${instrument.sector}`, `${kind}:*`];
}
