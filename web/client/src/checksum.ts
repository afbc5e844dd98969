import type { Image } from "./image.js";
import type { Topic } from "./protocol.js";
import { IMAGE_KINDS, TOPICS, fieldsOf } from "./schema.js";
import { canonical, symbolOf } from "./topic.js";

/**
 * The hash that compares the server's image of `topic` with this copy, or null if there is
 * no such image: FNV-1a, 32 bits, over the topic, `=`, and its fields as decimal integers in units.
 */
export function imageChecksum(image: Image, topic: Topic): number | null {
  const kind = IMAGE_KINDS.find((kind) => topic.startsWith(`${kind}:`));
  const instrument = image.find(symbolOf(topic) ?? "");
  const known = kind && instrument && image.fields(kind, instrument.number);
  if (!known) return null;
  const { all } = TOPICS[kind].image;
  const fields = fieldsOf(kind).filter(({ bit }) => bit & all);
  return fnv1a(`${canonical(topic)}=${fields.map(({ name }) => known[name] ?? "").join()}`);
}

/** FNV-1a, 32 bits, of a text's UTF-8. */
export function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text))
    hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}
