// node namespaces.mjs NODE_MODULES URL PARSER TRANSPORTS TRADES: takes trades of A in the public market until there are so
// many, and at the same time prices of a room, both on one connection; leaves the room, and prints what it saw as JSON.
import { createRequire } from "node:module";
import { join } from "node:path";

const [directory, url, parser, transports, trades] = process.argv.slice(2);
const require = createRequire(join(directory, "package.json"));
const { io } = require("socket.io-client");

const options = { transports: transports.split(",") };
if (parser === "msgpack") {
  options.path = "/socket.io/msgpack/";
  options.parser = require("socket.io-msgpack-parser");
}
const market = io(url, { ...options, auth: { topics: ["trades:A"] } });
const desk = io(`${url}/desk`, { ...options, auth: { topics: ["quote:*"], seed: 7 } });
const nowhere = io(`${url}/no room`, options);

const saw = { isShared: market.io === desk.io, numbers: [], prices: 0, refused: null, left: null, pong: null };
const isOver = new Promise((over) => {
  const look = () => saw.numbers.length === Number(trades) && saw.prices > 500 && saw.refused && over();
  market.on("update", ({ updates }) => {
    for (const entry of updates) for (const { number } of entry.trades ?? []) saw.numbers.push(number);
    look();
  });
  desk.on("update", ({ updates }) => {
    saw.prices += updates.filter(({ bid }) => bid).length;
    look();
  });
  nowhere.on("connect_error", ({ message }) => {
    saw.refused = message;
    look();
  });
});
console.log("ready");
await isOver;
saw.prices = true;
desk.on("disconnect", (why) => (saw.left = why));
desk.disconnect();
saw.pong = (await market.timeout(10_000).emitWithAck("ping")).type;
console.log(JSON.stringify(saw));
market.disconnect();
nowhere.disconnect();
