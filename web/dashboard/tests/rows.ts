import { AAPL } from "../../client/tests/frames.js";
import { liveWorld, type World } from "../../client/tests/fakes.js";
import { Market } from "../src/market.js";

/** A market of AAPL at 189.42, MSFT at 400.00 and an A that never traded. */
export function threeRows(): { it: World; market: Market } {
  const it = liveWorld();
  const market = new Market(it.client, () => {});
  const msft = { ...AAPL, symbol: "MSFT", name: "Microsoft", previous_close: 41_000 };
  const a = { ...AAPL, symbol: "A", name: "Agilent", previous_close: null };
  it.socket().deliver([1, 0, 3, 63, AAPL, 4, 63, msft, 5, 63, a]);
  it.socket().deliver([1, 0, 3, 42, 16, 42, 4, 42, 16, 21_100]);
  return { it, market };
}
