/**
 * The sessions that share a connection, by number. Messages of the first are not marked, so a client with one session sees no number.
 *
 * Invariant: a frame belongs to one session.
 */

/** Sessions that a connection may have. */
export const MOST_SESSIONS = 16;

/** The first, which begins and ends with its connection. */
export const FIRST_SESSION = 0;

/** The session of a frame, whose number precedes it unless it is the first, and the message. */
export function splitFrame(bytes: Uint8Array): { session: number; message: Uint8Array } {
  const [number] = bytes;
  if (number === undefined || number >= MOST_SESSIONS)
    return { session: FIRST_SESSION, message: bytes };
  return { session: number, message: bytes.subarray(1) };
}
