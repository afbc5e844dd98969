import type { Topic } from "./protocol.js";

/** The topic of `kind` for `symbol`, escaped where needed: `topicOf("quote", "@107")` is `quote:%40107`. */
export function topicOf(kind: string, symbol: string): Topic {
  return `${kind}:${escapeSymbol(symbol)}`;
}

/** The symbol that a topic names, or null if it names a set or nothing. */
export function symbolOf(topic: Topic): string | null {
  const at = topic.indexOf(":");
  const scope = topic.slice(at + 1);
  if (at < 0 || scope === "*" || /^@(?!\d+$)/.test(scope)) return null;
  return unescapeSymbol(scope);
}

/** A symbol as written in topics and lists: commas, a leading `@`, a lone `*`, and `%` in front of two hexadecimal digits are escaped. */
export function escapeSymbol(symbol: string): string {
  if (symbol === "*") return "%2A";
  return symbol
    .replace(/%(?=[\da-f]{2})/gi, "%25")
    .replaceAll(",", "%2C")
    .replace(/^@/, "%40");
}

/** Undoes {@link escapeSymbol}, or any percent-encoding; a text whose escapes are not UTF-8 stays the same. */
export function unescapeSymbol(text: string): string {
  try {
    return decodeURIComponent(text.replace(/%(?![\da-f]{2})/gi, "%25"));
  } catch {
    return text;
  }
}

/** A topic as the server writes it. */
export function canonical(topic: Topic): Topic {
  const symbol = symbolOf(topic);
  return symbol === null ? topic : topicOf(topic.slice(0, topic.indexOf(":")), symbol);
}
