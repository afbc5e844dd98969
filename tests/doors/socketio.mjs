// node socketio.mjs NODE_MODULES URL TRANSPORTS TRADES: takes trades of A until there are so many, through a restart
// of the server, and prints what it saw as JSON; before that a line when it has half of them.
import { createRequire } from "node:module";
import { join } from "node:path";

const [directory, url, transports, trades] = process.argv.slice(2);
const { io } = createRequire(join(directory, "package.json"))("socket.io-client");

const saw = { numbers: [], connects: 0, resumed: [], transports: [], answer: null, error: null };
let epoch, position;
const socket = io(url, {
  transports: transports.split(","),
  reconnectionDelay: 100,
  // Asked for at each connect.
  auth: (say) => say({ topics: ["trades:A"], since: position === undefined ? null : { epoch, position } }),
});
socket.on("connect", () => saw.connects++);
socket.on("connect_error", () => {}); // while the server is away
socket.on("welcome", (welcome) => (epoch = welcome.epoch));
socket.on("subscribed", (subscribed) => saw.resumed.push(subscribed.resumed ?? null));
socket.on("update", async (update) => {
  if (!update.more) position = update.position;
  for (const entry of update.updates) for (const { number } of entry.trades ?? []) saw.numbers.push(number);
  if (saw.numbers.length === Number(trades) / 2) console.log("half");
  if (saw.numbers.length < Number(trades) || saw.answer) return;
  saw.answer = "asked";
  saw.answer = (await socket.timeout(10_000).emitWithAck("subscribe", "quote:A", "trades:A")).topics.map((topic) => topic.topic);
  saw.error = (await socket.timeout(10_000).emitWithAck("subscribe", "price:A")).topics[0].error.code;
  saw.transports.push(socket.io.engine.transport.name);
  console.log(JSON.stringify(saw));
  socket.disconnect();
});
