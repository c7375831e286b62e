//! Profiles of users of other servers: asked of their servers, and remembered for a short while.
//!
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryprofile>.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event::identifier;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use remote::{RemoteError, Request};
use users::profile::{MAX_PROFILE_BYTES, Profile};

use crate::{Lock, Node};

/// How long a profile is answered from memory.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// How long a server may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The bytes of profiles in memory.
const MOST_BYTES: u64 = 16 << 20;

/// What is reckoned for an entry besides its profile, in bytes.
const ENTRY_BYTES: usize = 200;

#[derive(Clone)]
struct Remembered {
    /// None if the server knows no such profile.
    profile: Option<Arc<Profile>>,
    bytes: usize,
    until: Instant,
}

#[derive(Clone, Copy)]
struct ByBytes;

impl Weighter<String, Remembered> for ByBytes {
    fn weight(&self, user_id: &String, remembered: &Remembered) -> u64 {
        (user_id.len() + remembered.bytes + ENTRY_BYTES) as u64
    }
}

/// The profiles in memory.
pub(crate) struct Profiles(Cache<String, Remembered, ByBytes>);

impl Default for Profiles {
    fn default() -> Self {
        Self(Cache::with_weighter(10_000, MOST_BYTES, ByBytes))
    }
}

impl Profiles {
    fn get(&self, user_id: &str) -> Option<Option<Arc<Profile>>> {
        let remembered = self.0.get(user_id)?;
        (remembered.until > Instant::now()).then_some(remembered.profile)
    }
}

impl Node {
    /// The profile of a user of another server; none if that server knows none.
    ///
    /// # Errors
    /// If the server did not answer, or not as it should.
    pub async fn profile_of_other(
        &self,
        user_id: &str,
    ) -> Result<Option<Arc<Profile>>, RemoteError> {
        let Some(server) = identifier::domain(user_id) else {
            return Ok(None);
        };
        if let Some(profile) = self.profiles.get(user_id) {
            return Ok(profile);
        }
        // Many ask for the same profile at once; one asks the server.
        let _one_at_a_time = self
            .lock(Lock::Named(format!("profile of {user_id}")))
            .await;
        if let Some(profile) = self.profiles.get(user_id) {
            return Ok(profile);
        }
        let path = remote::path(
            "/_matrix/federation/v1/query/profile",
            &[],
            &[("user_id", user_id)],
        );
        let request = Request::get(path)
            .timeout(REQUEST_TIMEOUT)
            .max_answer(MAX_PROFILE_BYTES + 1024);
        let (profile, bytes) = match self.remote.call(server, request).await {
            Ok(answer) => (Some(Arc::new(read(&answer)?)), answer.len()),
            Err(RemoteError::Refused { status: 404, .. }) => (None, 0),
            Err(error) => return Err(error),
        };
        let remembered = Remembered {
            profile: profile.clone(),
            bytes,
            until: Instant::now() + GOOD_FOR,
        };
        self.profiles.0.insert(user_id.to_owned(), remembered);
        Ok(profile)
    }
}

/// The fields of an answer. A field that is null is one that is not there.
fn read(answer: &[u8]) -> Result<Profile, RemoteError> {
    let mut profile: Profile = serde_json::from_slice(answer)
        .map_err(|error| RemoteError::BadAnswer(error.to_string()))?;
    profile.retain(|_, value| !value.is_null());
    Ok(profile)
}
