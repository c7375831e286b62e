//! The shell around the core: pools, locks, commits, notifications, jobs.
