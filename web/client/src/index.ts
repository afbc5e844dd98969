export * from "./protocol.js";
export {
  TickcastClient,
  type ClientEvents,
  type ClientOptions,
  type Clock,
  type ConnectionState,
  type Counters,
  type SubscribeOptions,
  type Verification,
  type WebSocketLike,
} from "./client.js";
export { DecodeError } from "./decode.js";
export { Image } from "./image.js";
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
