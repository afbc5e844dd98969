/**
 * The beginning of an update in MessagePack: how far it moves a session on the tape and its clock.
 *
 * Pure. Invariant: {@link moved} changes nothing else of an update.
 */

import { encode } from "@msgpack/msgpack";

/** A place on the tape: batches, and microseconds since 1970. */
export interface Place {
  readonly position: number;
  readonly time: number;
}

interface Head {
  /** Of the array. */
  readonly length: number;
  /** Null: more of the same flush follows. */
  readonly positions: number | null;
  readonly micros: number;
  /** Where the entries begin. */
  readonly end: number;
}

/** Where a session is after an update that counts from `from`; null if the bytes are none. */
export function after(bytes: Uint8Array, from: Place): (Place & { whole: boolean }) | null {
  const head = headOf(bytes);
  if (!head) return null;
  const { positions, micros } = head;
  return {
    position: from.position + (positions ?? 0),
    time: from.time + micros,
    whole: positions !== null,
  };
}

/** The same update for a session that is at `at`, where it counted from `from`; null if the bytes are none. */
export function moved(bytes: Uint8Array, from: Place, at: Place): Uint8Array | null {
  if (from.position === at.position && from.time === at.time) return bytes;
  const head = headOf(bytes);
  if (!head) return null;
  const { length, positions, micros, end } = head;
  // A server that is behind another is not followed back.
  const on = positions === null ? null : Math.max(0, from.position + positions - at.position);
  const counts = [encode(on), encode(from.time + micros - at.time)];
  const head32 = Uint8Array.of(0xdd, length >>> 24, length >>> 16, length >>> 8, length);
  return joined([head32, ...counts, bytes.subarray(end)]);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function headOf(bytes: Uint8Array): Head | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    const [length, counts] = lengthOf(view);
    const [positions, times] = integerAt(view, counts);
    const [micros, end] = integerAt(view, times);
    return micros === null ? null : { length, positions, micros, end };
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

/** Of an array, and where its first element begins. */
function lengthOf(view: DataView): [number, number] {
  const first = view.getUint8(0);
  if (first >= 0x90 && first <= 0x9f) return [first & 0x0f, 1];
  if (first === 0xdc) return [view.getUint16(1), 3];
  if (first === 0xdd) return [view.getUint32(1), 5];
  throw new RangeError("no array");
}

/** An integer or nil, and what comes behind it. */
function integerAt(view: DataView, at: number): [number | null, number] {
  const first = view.getUint8(at);
  if (first < 0x80) return [first, at + 1];
  if (first >= 0xe0) return [first - 0x100, at + 1];
  switch (first) {
    case 0xc0:
      return [null, at + 1];
    case 0xcc:
      return [view.getUint8(at + 1), at + 2];
    case 0xcd:
      return [view.getUint16(at + 1), at + 3];
    case 0xce:
      return [view.getUint32(at + 1), at + 5];
    case 0xcf:
      return [Number(view.getBigUint64(at + 1)), at + 9];
    case 0xd0:
      return [view.getInt8(at + 1), at + 2];
    case 0xd1:
      return [view.getInt16(at + 1), at + 3];
    case 0xd2:
      return [view.getInt32(at + 1), at + 5];
    case 0xd3:
      return [Number(view.getBigInt64(at + 1)), at + 9];
    default:
      throw new RangeError("no integer");
  }
}
