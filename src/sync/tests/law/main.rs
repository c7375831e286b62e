//! The law of /sync and of sliding sync: a client that follows the tokens knows what a client that starts
//! anew is told, whatever happens between its requests.

mod following;
mod scene;
mod sliding;
