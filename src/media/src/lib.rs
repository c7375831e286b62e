//! Content repository: files on local disk, and thumbnails with bounded memory.
