/**
 * What all changes of one shape have in common, for code that treats the kinds of topics alike: {@link Conflation}, the JSON form,
 * a page's array of numbers. Builds a change from its kind and its fields, and takes it apart again.
 *
 * Pure. Invariant: a new kind of change or of image does not compile until it has its arm here.
 */

import type { Bar, Change, Instrument, Quote, Watchers } from "./protocol.js";
import type { ImageKind, RingKind, TopicKind } from "./schema.js";

const SHAPES = {
  reset: "reset",
  instrument: "definition",
  quote: "image",
  bar: "image",
  day: "image",
  watchers: "image",
  trades: "run",
  closed_bars: "run",
  trading: "state",
  feed: "state",
  stats: "state",
  messages: "channel",
  states: "channel",
  joined: "move",
  left: "move",
} as const satisfies Readonly<Record<Change["kind"], string>>;

type Shape = (typeof SHAPES)[Change["kind"]];
type Of<S extends Shape> = Extract<
  Change,
  {
    kind: {
      [Kind in Change["kind"]]: (typeof SHAPES)[Kind] extends S ? Kind : never;
    }[Change["kind"]];
  }
>;

/** Fields of an image that changed, and the current image. */
export type ImageChange = Of<"image">;
/** What is known of an image, by the names of its fields. */
export type ImageFields = ImageChange["changed"];
/** Entries of a ring without a hole. */
export type Run = Of<"run">;
export type Move = Of<"move">;

export function isImage(change: Change): change is ImageChange {
  return SHAPES[change.kind] === "image";
}

export function isRun(change: Change): change is Run {
  return SHAPES[change.kind] === "run";
}

export function isMove(change: Change): change is Move {
  return SHAPES[change.kind] === "move";
}

/** The kind of topic that a change is of. */
export function kindOf(change: Run): RingKind;
export function kindOf(change: ImageChange): ImageKind;
export function kindOf(change: ImageChange | Run | Move): TopicKind;
export function kindOf(change: ImageChange | Run | Move): TopicKind {
  switch (change.kind) {
    case "quote":
    case "day":
    case "watchers":
    case "trades":
      return change.kind;
    case "bar":
    case "closed_bars":
      return `bars.${change.interval}`;
    case "joined":
    case "left":
      return change.topic;
    default:
      return change satisfies never;
  }
}

/** The current image of a change. */
export function imageOf(change: ImageChange): ImageFields {
  switch (change.kind) {
    case "quote":
      return change.quote;
    case "bar":
      return change.bar;
    case "day":
      return change.day;
    case "watchers":
      return change.watchers;
    default:
      return change satisfies never;
  }
}

/** The change of an image of that kind, of which these fields have changed. */
export function imageChange(
  kind: ImageKind,
  instrument: Instrument,
  changed: ImageFields,
  image: ImageFields,
): ImageChange {
  switch (kind) {
    case "quote":
      return { kind, instrument, changed: changed as Quote, quote: image as Quote };
    case "bars.1s":
      return {
        kind: "bar",
        instrument,
        interval: "1s",
        changed: changed as Bar,
        bar: image as Bar,
      };
    case "bars.1m":
      return {
        kind: "bar",
        instrument,
        interval: "1m",
        changed: changed as Bar,
        bar: image as Bar,
      };
    case "day":
      return { kind, instrument, changed: changed as Bar, day: image as Bar };
    case "watchers":
      return { kind, instrument, changed: changed as Watchers, watchers: image as Watchers };
    default:
      return kind satisfies never;
  }
}
