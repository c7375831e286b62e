//! The server as its peers see it: bound sockets, real bytes.

mod door;
mod house;
mod lifecycle;
mod slow_peers;
