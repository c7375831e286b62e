//! Checks 1 to 3 on events of other servers: format, signatures, content hash; with the keys that they need.
//! <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>
//!
//! Events are checked by the keys that are known; for those that need others these are asked for in one go, and they
//! are checked again. Each event is read once. They are
//! checked in pieces, on as many cores as the [budget](crate::Budget) of whom they are checked for allows.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use event::{Pdu, RoomRules, SignatureError};
use rooms::ingest::{self, Refusal, Verified};
use servers::keys::Purpose;

use super::key_ring::WantedKeys;
use crate::budget::OF_THE_HOUSE;
use crate::pace::Pace;
use crate::{Node, NodeError};

/// Events in one piece of work: half a millisecond.
const IN_A_PIECE: usize = 16;

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
    /// Checks events of a room of the version of `rules` that this server fetched for its own users, and answers for each in their order.
    ///
    /// # Errors
    /// If the server can't check now (overload, a failing store). What is wrong with an event is its own answer;
    /// [`SignatureError::UnknownKeys`] is the one that another time may bring another answer.
    pub async fn verify_events(
        self: &Arc<Self>,
        rules: &'static RoomRules,
        events: Vec<Bytes>,
    ) -> Result<Vec<Result<Verified, Refusal>>, NodeError> {
        self.verify_events_for(&OF_THE_HOUSE.into(), rules, events)
            .await
    }

    /// As [`Node::verify_events`], on the account of the server that sent them.
    pub(crate) async fn verify_events_for(
        self: &Arc<Self>,
        account: &Arc<str>,
        rules: &'static RoomRules,
        events: Vec<Bytes>,
    ) -> Result<Vec<Result<Verified, Refusal>>, NodeError> {
        let mut stages: Vec<Stage> = events.into_iter().map(Stage::Raw).collect();
        stages = self.check_all(account, rules, stages).await?;
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
            stages = self.check_all(account, rules, stages).await?;
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
        account: &Arc<str>,
        rules: &'static RoomRules,
        stages: Vec<Stage>,
    ) -> Result<Vec<Stage>, NodeError> {
        let mut checked = Vec::with_capacity(stages.len());
        let mut pieces = Vec::new();
        let mut stages = stages.into_iter();
        loop {
            let piece: Vec<Stage> = stages.by_ref().take(IN_A_PIECE).collect();
            if piece.is_empty() {
                break;
            }
            let (node, account) = (Arc::clone(self), Arc::clone(account));
            pieces.push(tokio::spawn(async move {
                let checker = Arc::clone(&node);
                node.run_paced(&account, move |pace| {
                    checker.check_piece(rules, piece, pace)
                })
                .await
            }));
        }
        for piece in pieces {
            checked.extend(piece.await.map_err(|_| NodeError::Panicked)??);
        }
        Ok(checked)
    }

    fn check_piece(
        &self,
        rules: &RoomRules,
        stages: Vec<Stage>,
        pace: &mut Pace<'_>,
    ) -> Vec<Stage> {
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
            pace.step();
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
