export interface Clock {
  /** Milliseconds, from any start. */
  now(): number;
  /** Calls `callback` once after `ms`, unless the returned function is called before. */
  after(ms: number, callback: () => void): () => void;
  /** Calls `callback` once what has arrived meanwhile is read: in a separate task, not a timer. Default: that of {@link systemClock}. */
  soon?(callback: () => void): void;
  /** Milliseconds by a clock that goes on while the machine sleeps. Default: {@link now}. */
  wall?(): number;
}

export const systemClock: Required<Clock> = {
  now: () => performance.now(),
  after(ms, callback) {
    // A longer timer would fire at once.
    const timer = setTimeout(callback, Math.min(ms, 2 ** 31 - 1));
    return () => clearTimeout(timer);
  },
  soon: (callback) => soon(callback),
  wall: () => Date.now(),
};

/** Fills in what `clock` leaves out. */
export function completeClock(clock: Clock): Required<Clock> {
  return {
    now: () => clock.now(),
    after: (ms, callback) => clock.after(ms, callback),
    soon: (callback) => (clock.soon ? clock.soon(callback) : systemClock.soon(callback)),
    wall: () => (clock.wall ? clock.wall() : clock.now()),
  };
}

/** Node reads its sockets between two of these; browsers have messages instead, which do not wait for a timer either. */
let soon = (callback: () => void): void => {
  const { setImmediate } = globalThis as { setImmediate?: (callback: () => void) => void };
  soon = setImmediate ?? messages();
  soon(callback);
};

function messages(): (callback: () => void) => void {
  const { port1, port2 } = new MessageChannel();
  const waiting: (() => void)[] = [];
  port1.onmessage = () => waiting.shift()?.();
  return (callback) => {
    waiting.push(callback);
    port2.postMessage(null);
  };
}
