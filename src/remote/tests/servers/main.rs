//! Other servers as this one sees them, over real TLS on loopback.

mod calls;
mod discovery;
mod proxy;
mod server;
