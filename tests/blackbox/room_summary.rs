//! room_summary
