//! Core of rooms: append, membership, timeline, history visibility, relations, receipts, aliases, directory. Synchronous and pure over a view.
