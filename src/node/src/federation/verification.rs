//! Checks 1 to 3 on events of other servers: format, signatures, content hash; with the keys that they need.
//! <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>
//!
//! Events are checked by the keys that are known; for those that need others these are asked for in one go, and they
//! are checked again. Each event is read once. Many are checked on all cores, as far as nothing else wants them.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use event::{Pdu, RoomRules, SignatureError};
use rooms::ingest::{self, Refusal, Verified};
use servers::keys::Purpose;

use super::key_ring::WantedKeys;
use crate::{Lane, Node, NodeError};

/// Up to so many events are checked where they came in: about half a millisecond.
const FEW: usize = 6;

/// Events in one piece of work: some milliseconds.
const MOST_IN_A_PIECE: usize = 64;

/// How often keys are asked for: an event may need those of three servers, and each check finds one missing.
const ROUNDS: usize = 3;

/// An event on its way through the checks.
enum Stage {
    Raw(Bytes),
    /// Read, and in need of keys.
    Read(Box<(Pdu, Refusal)>, WantedKeys),
    Done(Result<Verified, Refusal>),
}

impl Node {
    /// Checks events of a room of the version of `rules`, and answers for each in their order.
    ///
    /// # Errors
    /// If the server can't check now (overload, a failing store). What is wrong with an event is its own answer;
    /// [`SignatureError::UnknownKeys`] is the one that another time may bring another answer.
    pub async fn verify_events(
        self: &Arc<Self>,
        rules: &'static RoomRules,
        events: Vec<Bytes>,
    ) -> Result<Vec<Result<Verified, Refusal>>, NodeError> {
        let mut stages: Vec<Stage> = events.into_iter().map(Stage::Raw).collect();
        stages = self.check_all(rules, stages).await?;
        for _ in 0..ROUNDS {
            let mut wanted = Vec::new();
            for stage in &stages {
                if let Stage::Read(_, keys) = stage {
                    wanted.push(keys.clone());
                }
            }
            if wanted.is_empty() {
                break;
            }
            self.fetch_server_keys(wanted).await?;
            stages = self.check_all(rules, stages).await?;
        }
        let answers = stages.into_iter().filter_map(|stage| match stage {
            Stage::Done(answer) => Some(answer),
            Stage::Read(read, _) => Some(Err(read.1)),
            Stage::Raw(_) => None,
        });
        Ok(answers.collect())
    }

    async fn check_all(
        self: &Arc<Self>,
        rules: &'static RoomRules,
        stages: Vec<Stage>,
    ) -> Result<Vec<Stage>, NodeError> {
        let open = stages
            .iter()
            .filter(|stage| !matches!(stage, Stage::Done(_)))
            .count();
        if open <= FEW {
            return Ok(self.check_piece(rules, stages));
        }
        let mut pieces = Vec::new();
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let length = stages.len().div_ceil(cores).clamp(1, MOST_IN_A_PIECE);
        let mut stages = stages.into_iter();
        loop {
            let piece: Vec<Stage> = stages.by_ref().take(length).collect();
            if piece.is_empty() {
                break;
            }
            let node = Arc::clone(self);
            pieces.push(tokio::spawn(async move {
                let checker = Arc::clone(&node);
                node.run(Lane::Spare, move || checker.check_piece(rules, piece))
                    .await
            }));
        }
        let mut checked = Vec::with_capacity(stages.len());
        for piece in pieces {
            checked.extend(piece.await.map_err(|_| NodeError::Panicked)??);
        }
        Ok(checked)
    }

    fn check_piece(&self, rules: &RoomRules, stages: Vec<Stage>) -> Vec<Stage> {
        let mut checked = Vec::with_capacity(stages.len());
        for stage in stages {
            checked.push(match stage {
                Stage::Raw(raw) => match Pdu::from_federation(rules, &raw) {
                    Ok(pdu) => self.check(rules, pdu),
                    Err(error) => Stage::Done(Err(error.into())),
                },
                Stage::Read(read, _) => self.check(rules, read.0),
                done => done,
            });
        }
        checked
    }

    fn check(&self, rules: &RoomRules, pdu: Pdu) -> Stage {
        let purpose = match rules.enforce_key_validity {
            // A time before 1970 is before every key.
            true => Purpose::EventOf(u64::try_from(pdu.origin_server_ts()).unwrap_or(0)),
            false => Purpose::OldEvent,
        };
        let failure = RefCell::new(None);
        let keys = |server_name: &str, key_id: &str| {
            self.known_key(server_name, key_id, purpose)
                .unwrap_or_else(|error| {
                    *failure.borrow_mut() = Some(error);
                    None
                })
        };
        let answer = ingest::verify_parsed(rules, pdu, &keys);
        if let Some(error) = failure.into_inner() {
            tracing::error!(%error, "keys can't be read");
        }
        let refused = match answer {
            Ok(verified) => return Stage::Done(Ok(verified)),
            Err(refused) => refused,
        };
        let Refusal::Signature(SignatureError::UnknownKeys {
            server_name,
            key_ids,
        }) = &refused.1
        else {
            return Stage::Done(Err(refused.1));
        };
        let wanted = WantedKeys {
            server_name: server_name.clone(),
            key_ids: key_ids.clone(),
            purpose,
        };
        Stage::Read(refused, wanted)
    }
}
