export * from "./protocol.js";
export {
  TickcastClient,
  systemClock,
  type ClientEvents,
  type ClientOptions,
  type Clock,
  type ConnectionState,
  type Counters,
  type FurtherSession,
  type Ping,
  type SubscribeOptions,
  type UpdatesOptions,
  type Verification,
  type WebSocketLike,
} from "./client.js";
export {
  imageChange,
  imageOf,
  isImage,
  isRun,
  kindOf,
  type ImageChange,
  type Run,
} from "./change.js";
export { Conflation, ENTRIES_KEPT } from "./conflation.js";
export { DecodeError } from "./decode.js";
export { Emitter } from "./emitter.js";
export { Image } from "./image.js";
export { ReplayControl, RequestError } from "./replay.js";
export {
  FIELDS,
  SIDES,
  TOPICS,
  TOPIC_KINDS,
  fieldsOf,
  type Field,
  type ImageKind,
  type RingKind,
  type Unit,
} from "./schema.js";
export type { ServerStats, ShardStats, SlowSession, TopicStats } from "./server-stats.js";
export { updateToJson } from "./json.js";
export { escapeSymbol, symbolOf, topicOf, unescapeSymbol } from "./topic.js";
export {
  formatDecimal,
  formatMicros,
  formatSeconds,
  price,
  size,
  toNumber,
  vwap,
} from "./number.js";
export { minus, plus, type Integer } from "./units.js";
export type { PageLike } from "./presence.js";
export type { Connection, Transport, TransportEvents, TransportName } from "./transport.js";
export type { TransportMemory } from "./transports/automatic.js";
export { followVisibility, type VisibilityOptions, type VisiblePage } from "./visibility.js";
