//! Core of accounts: devices, tokens, end-to-end keys, to-device messages, account data, profiles, push rules. Synchronous and pure over a view.
