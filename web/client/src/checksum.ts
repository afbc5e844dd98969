import type { Image } from "./image.js";
import type { Topic } from "./protocol.js";

/**
 * The hash by which the server's image of `topic` and this copy can be compared, or null where there is
 * no such image: FNV-1a, 32 bits, over the topic, `=`, and its fields as decimal integers in units.
 */
export function imageChecksum(image: Image, topic: Topic): number | null {
  const [kind = "", symbol = ""] = topic.split(/:(.*)/s);
  const instrument = image.find(symbol);
  if (!instrument) return null;
  const fields = fieldsOf(image, kind, instrument.number);
  return fields ? fnv1a(`${topic}=${fields.map((field) => field ?? "").join()}`) : null;
}

/** FNV-1a, 32 bits, of ASCII text. */
export function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++)
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0;
  return hash;
}

type Field = number | null | undefined;

function fieldsOf(
  image: Image,
  kind: string,
  number: Parameters<Image["quote"]>[0],
): Field[] | undefined {
  if (kind === "quote") {
    const quote = image.quote(number);
    return quote && [quote.bid, quote.bid_size, quote.ask, quote.ask_size];
  }
  if (kind !== "bars.1s" && kind !== "bars.1m" && kind !== "day") return undefined;
  const bar = image.bar(kind === "day" ? "day" : kind === "bars.1s" ? "1s" : "1m", number);
  if (!bar) return undefined;
  const { start, open, high, low, close, volume, trades, vwap, previous_close } = bar;
  const fields: Field[] = [start, open, high, low, close, volume, trades, vwap];
  return kind === "day" ? [...fields, previous_close] : fields;
}
