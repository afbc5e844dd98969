/**
 * What a session requests in addition to topics. Sent with requests to subscribe.
 *
 * Pure. Invariant: `isUnsent` is true from a change until a request to subscribe is sent.
 */

import type { SubscribeOptions } from "./api.js";

const MIN_HZ = 0.1;
const MAX_HZ = 1_000;

export class Options {
  isUnsent = false;
  private wanted: SubscribeOptions = {};

  get maxHz(): number | null {
    return this.wanted.maxHz ?? null;
  }

  change(options: SubscribeOptions): void {
    this.wanted = { ...this.wanted, ...options };
    this.isUnsent ||= Object.keys(options).length > 0;
  }

  /** As a request has them. */
  get fields(): { max_hz?: number | null; times?: boolean } {
    const { maxHz, times } = this.wanted;
    return {
      ...(maxHz === undefined ? {} : { max_hz: maxHz }),
      ...(times === undefined ? {} : { times }),
    };
  }
}

/** @throws {RangeError} if it is not from 0.1 to 1,000 */
export function checkHz(maxHz: number | null | undefined): void {
  if (maxHz == null || (maxHz >= MIN_HZ && maxHz <= MAX_HZ)) return;
  throw new RangeError(`maxHz ${maxHz} is not from ${MIN_HZ} to ${MAX_HZ}`);
}
