/**
 * Whether a connection is still alive: by its silence, and by the clock if this program itself was stopped.
 *
 * Pure: the time is passed in. Invariant: while there is a session, {@link Liveness.due} is at most a
 * second away, so a tick that comes much later proves that this program did not run.
 */

import type { Moment } from "./io.js";

/** Heartbeats of silence after which the data is stale, and after which the connection is given up. */
const STALE_HEARTBEATS = 2;
const DEAD_HEARTBEATS = 3;
/** How often a session is checked. */
const LOOK_MS = 1_000;
/** A tick this late was blocked by a handler or by the machine's sleep. */
const LATE_MS = 1_000;
/** The server ends the session after this silence of the client. */
const GIVEN_UP_MS = 60_000;
/** How long a connection that may be dead has to prove that it is alive. */
const CHECK_MS = 3_000;

export type Finding =
  | { readonly kind: "stale"; readonly heard_at: number }
  /** `atOnce`: the server is fine, so there is no wait. */
  | { readonly kind: "dead"; readonly reason: string; readonly atOnce: boolean }
  /** Ask the server for any answer. */
  | { readonly kind: "ask" };

export class Liveness {
  heardAt = 0;
  private heardWall = 0;
  /** Of the session; null while there is none. */
  private heartbeat: number | null = null;
  private frames = 0;
  /** When it is checked next. */
  private look: Moment | null = null;
  /** By when more than that many frames must have come. */
  private checking: { readonly due: number; readonly frames: number } | null = null;

  begin(at: Moment, heartbeat_ms: number): void {
    this.heartbeat = heartbeat_ms;
    this.watch(at);
  }

  end(): void {
    this.heartbeat = this.look = this.checking = null;
  }

  /** When the next {@link tick} is due. */
  get due(): number {
    return Math.min(this.look?.now ?? Infinity, this.checking?.due ?? Infinity);
  }

  /** Notes a frame. Returns whether it may have been waiting since before the machine slept. */
  hear(at: Moment): boolean {
    const slept = this.heartbeat !== null && this.silence(at) >= GIVEN_UP_MS;
    this.frames++;
    this.heardAt = at.now;
    this.heardWall = at.wall;
    return slept;
  }

  /** Checks the connection: an answer comes soon, or it is dead. */
  check(at: Moment): Finding[] {
    if (this.heartbeat === null || this.checking) return [];
    this.checking = { due: at.now + CHECK_MS, frames: this.frames };
    return [{ kind: "ask" }];
  }

  /** As {@link check}, unless a frame came just now. */
  checkIfQuiet(at: Moment): Finding[] {
    return this.silence(at) > LOOK_MS ? this.check(at) : [];
  }

  tick(at: Moment): Finding[] {
    const { checking, look } = this;
    if (checking && at.now >= checking.due) {
      this.checking = null;
      if (this.frames === checking.frames)
        return [{ kind: "dead", reason: "the connection did not outlast a pause", atOnce: true }];
    }
    if (!look || at.now < look.now) return [];
    const late = Math.max(at.now - look.now, at.wall - look.wall);
    const findings = late >= LATE_MS ? this.comeTo(at) : this.listen(at);
    this.watch(at);
    return findings;
  }

  /** By the clock that shows more. */
  private silence(at: Moment): number {
    return Math.max(at.now - this.heardAt, at.wall - this.heardWall);
  }

  private watch(at: Moment): void {
    const { heartbeat } = this;
    if (heartbeat === null) return;
    const silence = at.now - this.heardAt;
    const bounds = [STALE_HEARTBEATS, DEAD_HEARTBEATS].map((beats) => beats * heartbeat);
    const next = bounds.map((bound) => bound - silence).find((wait) => wait > 0) ?? LOOK_MS;
    const wait = Math.min(LOOK_MS, next);
    this.look = { now: at.now + wait, wall: at.wall + wait };
  }

  /** Frames that came meanwhile are not read yet, so silence proves nothing. */
  private comeTo(at: Moment): Finding[] {
    if (this.silence(at) < GIVEN_UP_MS) return this.check(at);
    const reason = "this program stood still, or its machine slept";
    return [{ kind: "dead", reason, atOnce: true }];
  }

  private listen(at: Moment): Finding[] {
    const silence = at.now - this.heardAt;
    const heartbeat = this.heartbeat ?? Infinity;
    if (silence >= DEAD_HEARTBEATS * heartbeat)
      return [{ kind: "dead", reason: "the server fell silent", atOnce: false }];
    if (silence < STALE_HEARTBEATS * heartbeat) return [];
    return [{ kind: "stale", heard_at: this.heardAt }];
  }
}
