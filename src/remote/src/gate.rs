//! How many requests go to one server at once: one that answers slowly holds up no others.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most requests to one server at once.
const MOST_AT_ONCE: usize = 32;

/// Entries that may be stale before they are looked for.
const MOST_STALE: usize = 1024;

/// Lets requests to servers pass.
#[derive(Default)]
pub struct Gate {
    servers: Mutex<HashMap<Box<str>, Weak<Semaphore>>>,
}

impl Gate {
    /// Waits for a request's turn; the permit ends it.
    pub async fn enter(&self, server_name: &str) -> Option<OwnedSemaphorePermit> {
        let semaphore = self.of(server_name);
        // It is never closed.
        semaphore.acquire_owned().await.ok()
    }

    fn of(&self, server_name: &str) -> Arc<Semaphore> {
        let mut servers = self.servers.lock();
        if let Some(semaphore) = servers.get(server_name).and_then(Weak::upgrade) {
            return semaphore;
        }
        if servers.len() >= MOST_STALE && servers.len() == servers.capacity() {
            servers.retain(|_, semaphore| semaphore.strong_count() > 0);
        }
        let semaphore = Arc::new(Semaphore::new(MOST_AT_ONCE));
        servers.insert(server_name.into(), Arc::downgrade(&semaphore));
        semaphore
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_server_fills_its_own_gate_and_no_other() {
        let gate = Gate::default();
        let mut held = Vec::new();
        for _ in 0..MOST_AT_ONCE {
            held.push(gate.enter("slow.example").await);
        }
        assert_eq!(gate.of("slow.example").available_permits(), 0);
        assert!(gate.enter("a.example").await.is_some());
        held.pop();
        assert!(gate.enter("slow.example").await.is_some());
    }
}
