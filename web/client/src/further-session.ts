/**
 * What each session of a client has: the first, which is the client itself, or one more over the same connection.
 *
 * Invariant: it decides nothing and keeps nothing.
 */

import type { SessionEvents, SubscribeOptions, UpdatesOptions, Verification } from "./api.js";
import { Emitter } from "./emitter.js";
import type { Image } from "./image.js";
import type { Happening } from "./io.js";
import { updatesOf } from "./loop.js";
import type { Topic, Update } from "./protocol.js";
import type { Shell } from "./shell.js";

/** Topics, a rate cap, a position on the tape, and the image as of there. */
export abstract class SessionApi<Events extends SessionEvents> extends Emitter<Events> {
  readonly image: Image;

  protected isEnded = false;

  constructor(
    protected readonly shell: Shell,
    private readonly opened: number,
  ) {
    super();
    this.image = shell.session.subscriber(opened).image;
    shell.listen(opened, ({ type, event }: Happening) =>
      this.emit(type as keyof Events, event as Events[keyof Events]),
    );
  }

  /** Its number on the connection; reused after it has ended. */
  protected get number(): number {
    if (this.isEnded) throw new RangeError("the session is ended");
    return this.opened;
  }

  /**
   * Calls `listener` for every event of `type` until the returned function is called.
   *
   * One for `update` gets what has come since its last call, in a separate task: of images the newest values, of
   * rings every entry, in order, or how many are missed. If it returns a promise it is not called again before that is settled.
   */
  override on<Type extends keyof Events>(
    type: Type,
    listener: (event: Events[Type]) => unknown,
  ): () => void {
    if (type !== "update") return super.on(type, listener);
    return this.shell
      .deliveries(this.number)
      .add(listener as unknown as (update: Update) => unknown);
  }

  /**
   * Adds topics, now and after every reconnect. What is added and removed in one task goes out in one request.
   *
   * @throws {RangeError} beyond 1,024 topics of all sessions of the client, or if `maxHz` is out of its range: nothing is subscribed then.
   */
  subscribe(topics: readonly Topic[], options: SubscribeOptions = {}): void {
    this.shell.command({ kind: "subscribe", session: this.number, topics, options });
  }

  unsubscribe(topics: readonly Topic[]): void {
    this.shell.command({ kind: "unsubscribe", session: this.number, topics });
  }

  /** Updates a second at most, as requested; null for no cap. */
  get maxHz(): number | null {
    return this.shell.session.subscriber(this.number).options.maxHz;
  }

  /**
   * Caps the updates of the entire session, or lifts the cap with null. Nothing is sent again for that.
   *
   * @throws {RangeError} if it is not from 0.1 to 1,000
   */
  setMaxHz(maxHz: number | null): void {
    this.shell.command({ kind: "cap", session: this.number, maxHz });
  }

  /** Requests a `stats` event once a second, in this session and those after it. */
  requestStats(enabled: boolean): void {
    this.shell.command({ kind: "stats", session: this.number, enabled });
  }

  /**
   * The updates from now on, for `for await`. A slow loop gets what has come meanwhile as one update:
   * the newest values, and every entry of rings, the oldest beyond `entries` counted as missed. Ends when the client is closed.
   *
   * @throws {Error} from the loop if the connection has ended for a reason that reconnecting does not fix
   */
  updates({ signal, entries }: UpdatesOptions = {}): AsyncIterableIterator<Update> {
    const loop = this.shell.deliveries(this.number).loop(entries);
    return updatesOf(loop, (listener) => this.shell.onState(this.number, listener), signal);
  }

  /**
   * Compares the copies of image topics with the server's, by checksum at the same position. To repair a copy
   * that does not match, unsubscribe and subscribe its topic.
   *
   * @param topics of single instruments, at most 64
   * @returns rejects if there is no session, it ends, or the server refuses
   */
  verify(topics: readonly Topic[]): Promise<Verification[]> {
    return this.shell.ask({ op: "checksum", topics }, this.number);
  }
}

/** One more session over a client's connection. */
export class FurtherSession extends SessionApi<SessionEvents> {
  /** Ends it: handlers are called no more, and its methods throw. The connection goes on. */
  close(): void {
    this.shell.end(this.number);
    this.isEnded = true;
  }
}
