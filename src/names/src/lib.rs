//! Numbers for the names that recur everywhere: users and rooms.
