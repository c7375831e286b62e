//! What the operator of a server sees of it: processes, signals, logs, folders and the command line.

mod accounts;
mod data;
mod lifecycle;
mod refused;
mod rooms;
mod supervised;
