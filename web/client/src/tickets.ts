/**
 * The promises of questions that were put to a session, by ticket.
 *
 * Invariant: each is settled once, as each question of a session ends in one `answered` or `failed`.
 */

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export class Tickets {
  private readonly waiting = new Map<number, Waiting>();
  private last = 0;

  /** @param ask puts the question; the promise is the answer */
  open<T>(ask: (ticket: number) => void): Promise<T> {
    const ticket = ++this.last;
    return new Promise((resolve, reject) => {
      this.waiting.set(ticket, { resolve: resolve as (value: unknown) => void, reject });
      ask(ticket);
    });
  }

  resolve(ticket: number, value: unknown): void {
    this.take(ticket)?.resolve(value);
  }

  reject(ticket: number, error: Error): void {
    this.take(ticket)?.reject(error);
  }

  private take(ticket: number): Waiting | undefined {
    const waiting = this.waiting.get(ticket);
    this.waiting.delete(ticket);
    return waiting;
  }
}
