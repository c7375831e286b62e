//! For tests only: a running server, clients, clocks, randomness.
