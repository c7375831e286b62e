//! Ordered key-value boundary: tables, views, batches and the group-committing writer.
