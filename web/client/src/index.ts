export * from "./protocol.js";
export {
  TickcastClient,
  systemClock,
  type ClientEvents,
  type ClientOptions,
  type Clock,
  type ConnectionState,
  type Counters,
  type Ping,
  type SubscribeOptions,
  type UpdatesOptions,
  type Verification,
  type WebSocketLike,
} from "./client.js";
export { Conflation, ENTRIES_KEPT } from "./conflation.js";
export { DecodeError } from "./decode.js";
export { Emitter } from "./emitter.js";
export { Image } from "./image.js";
export { ReplayControl, RequestError } from "./replay.js";
export type { ServerStats, ShardStats, SlowSession, TopicStats } from "./server-stats.js";
export { updateToJson } from "./json.js";
export {
  formatDecimal,
  formatMicros,
  formatSeconds,
  price,
  size,
  toNumber,
  vwap,
} from "./number.js";
export { followVisibility, type VisibilityOptions, type VisiblePage } from "./visibility.js";
