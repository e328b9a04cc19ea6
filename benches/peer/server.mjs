// What one would write with Socket.IO in an afternoon: watch an event, hold seats, everybody who
// watches is told. `happening bench` measures it beside our server, over the same frames.
//
// One process, holds in memory: no Redis, no other process to tell, nothing that ends a hold by
// itself. That is less than ours does, so the comparison favours this one.
//
// Says its port on stdout; a line on stdin has it collect its garbage, so that memory is compared
// without what it would have given back anyway.

import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { Server } from 'socket.io';

const taken = Number(process.argv[2] ?? 0);
const takenSeats = Array.from({ length: taken }, (_, index) => index + 1);
const holds = new Map(); // event -> seat -> the socket that holds it

const http = createServer();
const io = new Server(http, { serveClient: false });
// As Socket.IO's documentation advises for many sockets: the request is not needed any more.
io.engine.on('connection', (raw) => {
  raw.request = null;
});

function held(eventId) {
  if (!holds.has(eventId)) holds.set(eventId, new Map());
  return holds.get(eventId);
}

function tell(eventId) {
  const heldSeats = [...held(eventId).keys()];
  io.to(`event:${eventId}`).emit('event:holds:update', { eventId, heldSeats });
}

function letGo(socket, eventId) {
  const seats = held(eventId);
  for (const seat of socket.data.seats ?? []) seats.delete(seat);
  socket.data.seats = undefined;
}

io.on('connection', (socket) => {
  socket.on('event:join', ({ eventId }, ack) => {
    socket.join(`event:${eventId}`);
    ack({ eventId, takenSeats, heldSeats: [...held(eventId).keys()] });
  });
  socket.on('event:holds:set', ({ eventId, seats }, ack) => {
    const all = held(eventId);
    const conflicts = seats.filter((seat) => seat <= taken || (all.get(seat) ?? socket.id) !== socket.id);
    if (conflicts.length === 0) {
      letGo(socket, eventId);
      for (const seat of seats) all.set(seat, socket.id);
      Object.assign(socket.data, { eventId, seats });
      tell(eventId);
    }
    ack({ eventId, requestedSeats: seats, allowedSeats: conflicts.length ? [] : seats, conflicts });
  });
  socket.on('disconnect', () => {
    const { eventId, seats } = socket.data;
    if (!seats) return;
    letGo(socket, eventId);
    tell(eventId);
  });
});

http.listen(0, '127.0.0.1', () => console.log(http.address().port));
for await (const _ of createInterface({ input: process.stdin })) {
  globalThis.gc?.();
  console.log('collected');
}
process.exit(0); // whoever started us is gone
