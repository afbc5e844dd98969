/**
 * What goes into a {@link "./session".Session} and what comes out of it: plain values, so that a history of a client
 * can be recorded, invented and replayed.
 *
 * Invariant: data only; times are milliseconds of the shell's clock.
 */

import type { ClientEvents, Ping, SubscribeOptions, Verification } from "./api.js";
import type { Post, Published, ReplayAction, ReplayState, Topic, Update } from "./protocol.js";

/** When an input is passed in. */
export interface Moment {
  /** By a monotonic clock. */
  readonly now: number;
  /** By a clock that goes on while the machine sleeps. */
  readonly wall: number;
}

/** A request whose answer a caller waits for. */
export type Question =
  | { readonly op: "ping" }
  | { readonly op: "checksum"; readonly topics: readonly Topic[] }
  | ({ readonly op: "replay" } & ReplayAction)
  | ({ readonly op: "publish" } & Post);

/** What the caller requests. */
export type Command =
  | { readonly kind: "connect" }
  | { readonly kind: "reconnect" }
  | { readonly kind: "close" }
  /** One more session on the connection, with a free number; and its end. */
  | { readonly kind: "open"; readonly session: number; readonly options: SubscribeOptions }
  | { readonly kind: "end"; readonly session: number }
  | (OfSession &
      (
        | {
            readonly kind: "subscribe";
            readonly topics: readonly Topic[];
            readonly options: SubscribeOptions;
          }
        | { readonly kind: "unsubscribe"; readonly topics: readonly Topic[] }
        | { readonly kind: "cap"; readonly maxHz: number | null }
        | { readonly kind: "stats"; readonly enabled: boolean }
        /** Ends in one `answered` or `failed` output of the same ticket. */
        | { readonly kind: "ask"; readonly ticket: number; readonly question: Question }
      ));

/** Absent: of the connection's first session. */
interface OfSession {
  readonly session?: number;
}

export type Input =
  /** The transport is open. A transport that cannot know this leaves it out. */
  | { readonly kind: "connected" }
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "binary"; readonly bytes: Uint8Array }
  /** The connection is gone, or could not be made; 1006 if no code came. */
  | {
      readonly kind: "closed";
      readonly code: number;
      readonly reason: string;
      /** A better one is there already. */
      readonly atOnce?: boolean;
    }
  | { readonly kind: "command"; readonly command: Command }
  /** The page is suspended, comes back, or a wait has become pointless. */
  | { readonly kind: "page"; readonly change: "sleep" | "wake" | "stir" }
  /** The task that a `turn` output requested. */
  | { readonly kind: "turn" }
  /** Handlers have received something, or have finished: for how long they have had the oldest. */
  | { readonly kind: "delivered"; readonly behind_ms: number }
  /** The result of an `explain` output; null for nothing. */
  | { readonly kind: "explained"; readonly reason: string | null }
  /** {@link "./session".Session.deadline} has come. */
  | { readonly kind: "tick"; readonly behind_ms: number };

export type Output =
  | { readonly kind: "connect" }
  | { readonly kind: "send"; readonly text: string }
  /** Drop the connection; nothing comes from it any more. */
  | { readonly kind: "disconnect" }
  | (OfSession &
      (
        | Happening
        /** For the handlers of updates, at their own pace. */
        | { readonly kind: "update"; readonly update: Update }
        /** Deliver what is pending for handlers now: what follows must not overtake it. */
        | { readonly kind: "flush" }
        /** What is pending for handlers is void. */
        | { readonly kind: "drop" }
        /** What is pending for handlers is dropped. */
        | { readonly kind: "discard" }
      ))
  /** Pass in a `turn` once what has arrived by now is read. */
  | { readonly kind: "turn" }
  /** Find out by other means why there is no connection; or stop that. */
  | { readonly kind: "explain" }
  | { readonly kind: "explain_no_more" }
  | {
      readonly kind: "answered";
      readonly ticket: number;
      readonly answer: Verification[] | Ping | ReplayState | Published;
    }
  | { readonly kind: "failed"; readonly ticket: number; readonly error: Error };

/** Events for listeners at once. */
export type Happening = {
  [Type in keyof ClientEvents]: {
    readonly kind: "event";
    readonly type: Type;
    readonly event: ClientEvents[Type];
  };
}[keyof ClientEvents];

/**
 * Takes outputs in order. An array keeps them; a shell may do each one as it comes, and pass in further inputs
 * meanwhile, as when a handler closes the client.
 */
export interface Sink {
  push(output: Output): unknown;
}
