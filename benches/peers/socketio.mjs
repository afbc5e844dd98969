// Rooms as the Socket.IO documentation has them: clients join one, and what is published is emitted to it.
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, { transports: ["websocket"] });

io.on("connection", (socket) => {
  socket.on("subscribe", (room, joined) => {
    socket.join(room);
    joined();
  });
  socket.on("publish", (room, quote) => io.to(room).emit("quote", quote));
});

http.listen(Number(process.argv[2]), "127.0.0.1");
