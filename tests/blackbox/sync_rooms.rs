//! sync_rooms
