//! Matrix events: format, canonical JSON, hashes, signatures, redaction, authorisation, state resolution. No store.
