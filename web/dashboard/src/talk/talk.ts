/**
 * What is said at the desk, and who watches the open symbol: what the panel shows of the updates of the page's link.
 *
 * Pure. Invariant: at most {@link LINES} messages are kept.
 */

import { topicOf, type Change, type ChannelMessage, type Json, type Topic } from "@tickcast/client";

/** The channel of everybody at this market. */
export const CHANNEL = "desk";
/** As many as the server keeps. */
const LINES = 256;
/** After the last key, for how long somebody types. */
export const TYPING_MS = 4_000;

export class Talk {
  messages: readonly ChannelMessage[] = [];
  /** Messages that were lost before the first of these. */
  missed = 0;
  watchers: number | null = null;
  private readonly states = new Map<string, Json>();

  /** Those who type, in the order of their names. */
  get typing(): string[] {
    const typing = [...this.states].filter(([, state]) => isTyping(state)).map(([name]) => name);
    return typing.sort((a, b) => a.localeCompare(b));
  }

  /** Takes the changes of an update in; returns whether any was of the panel. */
  take(changes: readonly Change[], symbol: string): boolean {
    let concerned = false;
    for (const change of changes) concerned = this.apply(change, symbol) || concerned;
    return concerned;
  }

  /** Another symbol is open: how many watch it is not known yet. */
  forgetWatchers(): void {
    this.watchers = null;
  }

  /** The server's tape is another one. */
  clear(): void {
    this.messages = [];
    this.missed = 0;
    this.watchers = null;
    this.states.clear();
  }

  private apply(change: Change, symbol: string): boolean {
    if (change.kind === "watchers") {
      if (change.instrument.symbol !== symbol) return false;
      this.watchers = change.watchers.watchers ?? null;
      return true;
    }
    if (change.kind === "messages" && change.channel === CHANNEL) {
      const newest = this.messages.at(-1)?.number ?? -1;
      const added = change.messages.filter(({ number }) => number > newest);
      this.missed += change.missed;
      this.messages = [...this.messages, ...added].slice(-LINES);
      return true;
    }
    if (change.kind !== "states" || change.channel !== CHANNEL) return false;
    if (change.whole) this.states.clear();
    for (const [name, state] of Object.entries(change.changed))
      if (state === null) this.states.delete(name);
      else this.states.set(name, state);
    return true;
  }
}

/** What the panel needs while `symbol` is open. */
export function topicsOf(symbol: string): Topic[] {
  const ofDesk = [topicOf("messages", CHANNEL), topicOf("states", CHANNEL)];
  return symbol === "" ? ofDesk : [...ofDesk, topicOf("watchers", symbol)];
}

/** What a message says, for people: other programs may say anything. */
export function textOf({ data, event }: ChannelMessage): string {
  const text = typeof data === "string" ? data : JSON.stringify(data);
  return event === undefined || event === MESSAGE ? text : `${event}: ${text}`;
}

/** The event of a message that somebody writes. */
export const MESSAGE = "chat message";

export function watchersText(watchers: number, symbol: string): string {
  return watchers === 1 ? `1 watches ${symbol}` : `${watchers} watch ${symbol}`;
}

export function typingText(names: readonly string[]): string {
  if (names.length === 0) return "";
  if (names.length > 3) return `${names.length} are typing …`;
  return `${names.join(", ")} ${names.length === 1 ? "is" : "are"} typing …`;
}

function isTyping(state: Json): boolean {
  return typeof state === "object" && state !== null && "typing" in state && state.typing === true;
}
