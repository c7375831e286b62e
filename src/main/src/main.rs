//! The binary `meyrin`: command line, wiring, logging, signals.
fn main() {}
