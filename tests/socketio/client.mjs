// Drives the unmodified socket.io-client for tests/it/socketio.rs: commands are JSON lines on
// stdin, everything that happens is a JSON line on stdout.
//
//   {"do": "open", "id": "a", "url": "…", "options": {…}}
//   {"do": "emit", "id": "a", "event": "…", "args": […], "ack": 7}
//   {"do": "cut", "id": "a"}     the network fails: the client comes back by itself
//   {"do": "close", "id": "a"}

import { createInterface } from 'node:readline';
import { io } from 'socket.io-client';

const sockets = new Map();
const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const transport = (socket) => socket.io.engine?.transport?.name ?? null;

function open({ id, url, options }) {
  const socket = io(url, { forceNew: true, reconnectionDelay: 50, ...options });
  sockets.set(id, socket);
  // How it began is told before the upgrade can be over.
  let began = null;
  socket.io.on('open', () => {
    began = transport(socket);
    socket.io.engine.once('upgrade', () => tell({ id, event: 'upgrade', args: [transport(socket)] }));
  });
  socket.on('connect', () => tell({ id, event: 'connect', args: [began] }));
  socket.on('disconnect', (reason) => tell({ id, event: 'disconnect', args: [reason] }));
  socket.on('connect_error', (error) => tell({ id, event: 'connect_error', args: [error.message] }));
  socket.onAny((event, ...args) => tell({ id, event, args }));
}

function emit({ id, event, args, ack }) {
  const answer = (...answers) => tell({ id, event: 'ack', args: [ack, ...answers] });
  sockets.get(id).emit(event, ...args, ...(ack === undefined ? [] : [answer]));
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  if (command.do === 'open') open(command);
  if (command.do === 'emit') emit(command);
  if (command.do === 'cut') sockets.get(command.id).io.engine.close();
  if (command.do === 'close') sockets.get(command.id).disconnect();
}
process.exit(0);
