// What a recorded Binance session ends with, computed from the raw file alone: the independent half of tests/real_session.rs.
// Usage: node tests/final_image.mjs FILE.gz
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

const last = {};
let trades = 0;
for (const line of gunzipSync(readFileSync(process.argv[2])).toString().split("\n")) {
  const message = JSON.parse(line.slice(line.indexOf(" ") + 1) || "{}");
  const kind = message.stream?.split("@")[1];
  if (kind === "bookTicker" || kind === "trade") last[kind] = message.data;
  if (kind === "trade") trades += 1;
}
const { b, B, a, A, s } = last.bookTicker;
console.log(JSON.stringify({ symbol: s, bid: +b, bid_size: +B, ask: +a, ask_size: +A, last: +last.trade.p, trades }));
