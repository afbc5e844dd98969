// The npm package `eventsource`, as its users use it: prints the last id and each trade's number, until it has so many.
import { createRequire } from "node:module";
const { EventSource } = createRequire(`${process.argv[2]}/`)("eventsource");

const [url, count] = [process.argv[3], Number(process.argv[4])];
const numbers = [];
const source = new EventSource(url);
source.onmessage = ({ data, lastEventId }) => {
  const message = JSON.parse(data);
  for (const { trades = [] } of message.updates ?? []) numbers.push(...trades.map(({ number }) => number));
  if (numbers.length < count) return;
  source.close();
  console.log(JSON.stringify({ numbers, lastEventId }));
};
// It comes back by itself from everything but an answer that is not 200.
source.onerror = () => {
  if (source.readyState === EventSource.CLOSED) {
    console.error("given up");
    process.exit(1);
  }
};
