//! WINDOW. Sockets through which people watch seats and hold them: plain WebSockets on the API's
//! port and Socket.IO on a port of its own, two faces of the same rooms (`app/seat_rooms`).

pub mod frame;
mod measure;
pub mod origin;
pub mod pace;
pub mod plain;
pub mod say;
pub mod socketio;
