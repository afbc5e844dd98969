/**
 * The requests of a connection whose answer a caller waits for, by number.
 *
 * Pure. Invariant: each question that was put is taken out once, by its answer, a refusal, or the connection's end.
 */

import type { Question } from "./io.js";
import type { RequestId } from "./protocol.js";

export interface Put {
  readonly ticket: number;
  readonly op: Question["op"];
  /** When it was sent, or put while it is queued. */
  sent_at: number;
}

export class Questions {
  private readonly put = new Map<RequestId | undefined, Put>();

  add(id: RequestId, put: Put): void {
    this.put.set(id, put);
  }

  sent(id: RequestId, now: number): void {
    const put = this.put.get(id);
    if (put) put.sent_at = now;
  }

  /** The question of an answer of kind `op`; undefined if no caller waits for it. */
  take(id: RequestId | undefined, op?: Question["op"]): Put | undefined {
    const put = this.put.get(id);
    if (!put || (op && put.op !== op)) return undefined;
    this.put.delete(id);
    return put;
  }

  /** The connection has ended: nothing is answered any more. */
  end(): Put[] {
    const open = [...this.put.values()];
    this.put.clear();
    return open;
  }
}
