// A channel as the documentation of better-sse has it: clients are registered, and what is published is broadcast.
import { createServer } from "node:http";
import { createChannel, createSession } from "better-sse";

const channel = createChannel();

const http = createServer(async (request, response) => {
  if (request.url === "/subscribe") {
    channel.register(await createSession(request, response));
    return;
  }
  let message = "";
  for await (const part of request) message += part;
  channel.broadcast(message);
  response.end();
});

http.listen(Number(process.argv[2]), "127.0.0.1");
