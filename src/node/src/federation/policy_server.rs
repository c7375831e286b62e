//! Asking the policy servers of rooms: to sign what users of this server send, before it enters the room, and to say what
//! they think of events that others sent without their signature.
//! <https://spec.matrix.org/v1.19/server-server-api/#asking-for-a-policy-server-signature-on-an-event>
//!
//! Invariants:
//! - No lock is held while a policy server is waited for. Whether what it said still counts is decided at the door of the
//!   room ([`rooms::policy`]).
//! - Of one event a policy server is asked once, however many wait for the answer; and what it answered is remembered.
//! - One that does not answer delays what comes from other servers once in a while, and not for each event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event::{EventId, Pdu, RoomRules, identifier};
use names::RoomSn;
use quick_cache::sync::Cache;
use remote::{RemoteError, Request};
use rooms::ingest::Verified;
use rooms::policy::{KEY_ID, Opinion, PolicyServer, SignedEvents, Unsigned, is_exempt};
use rooms::{event_log, servers};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::federation::fetch::read;
use crate::{Lane, Node, NodeError};

const SIGN: &str = "/_matrix/policy/v1/sign";

/// How long a policy server may look at an event that a user of this server waits to send: some look into files.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it may look at an event of another server, while all that came with it waits.
const PATIENCE_WITH_OTHERS: Duration = Duration::from_secs(10);

/// How long one that did not answer is not asked about events of other servers.
const SILENCE: Duration = Duration::from_secs(60);

/// Questions to one policy server at once, about events that came together.
const AT_ONCE: usize = 8;

/// The most bytes of a signature.
const MOST_ANSWER_BYTES: usize = 64 << 10;

/// Events of one change that a policy server is asked to sign, one after the other: as each follows the one before.
const MOST_OF_A_CHANGE: usize = 100;

/// Answers that are remembered, and policy servers that did not answer.
const MOST_ANSWERS: usize = 10_000;

/// What a policy server said of an event.
#[derive(Clone)]
enum Answer {
    Signature(Arc<str>),
    Refused(RemoteError),
}

/// What policy servers said.
pub(crate) struct PolicyAnswers {
    answers: Cache<(PolicyServer, EventId), Answer>,
    /// Until when those that did not answer are let alone.
    silent: Cache<Arc<str>, Instant>,
}

impl Default for PolicyAnswers {
    fn default() -> Self {
        Self {
            answers: Cache::new(MOST_ANSWERS),
            silent: Cache::new(MOST_ANSWERS),
        }
    }
}

impl PolicyAnswers {
    fn is_silent(&self, name: &Arc<str>) -> bool {
        let until = self.silent.get(name);
        until.is_some_and(|until| Instant::now() < until)
    }
}

impl Node {
    /// Has the event signed that a change could not insert; whether there was one, and the change is to be made again.
    /// The caller holds no lock.
    ///
    /// # Errors
    /// [`NodeError::PolicyServer`] if the policy server refuses, or does not answer as it should.
    pub async fn have_signed(&self, signed: &mut SignedEvents) -> Result<bool, NodeError> {
        let Some(unsigned) = signed.next_wanted() else {
            return Ok(false);
        };
        if signed.len() >= MOST_OF_A_CHANGE {
            return Err(NodeError::Overloaded);
        }
        let signature = self.signature_for(&unsigned).await?;
        let added = unsigned.signed(&signature);
        signed.add(added.map_err(wrong_signature)?);
        Ok(true)
    }

    /// An event that was made here, signed by the policy server if the room uses one.
    ///
    /// # Errors
    /// As [`Node::have_signed`].
    pub(crate) async fn signed_for_room(
        &self,
        room: RoomSn,
        rules: &'static RoomRules,
        pdu: Pdu,
    ) -> Result<Pdu, NodeError> {
        let Some(server) = self.policy_server_for(room, &pdu)? else {
            return Ok(pdu);
        };
        let unsigned = Unsigned::new(server, rules, pdu);
        let signature = self.signature_for(&unsigned).await?;
        let signed = unsigned.signed(&signature).map_err(wrong_signature)?;
        Ok(signed.event().pdu().clone())
    }

    fn policy_server_for(
        &self,
        room: RoomSn,
        pdu: &Pdu,
    ) -> Result<Option<PolicyServer>, NodeError> {
        if is_exempt(pdu.event_type(), pdu.state_key()) {
            return Ok(None);
        }
        let head = self.store().head();
        Ok(PolicyServer::in_use(&head, room, self.server_name())?)
    }

    async fn signature_for(&self, unsigned: &Unsigned) -> Result<Arc<str>, NodeError> {
        let asked = self.ask_policy_server(unsigned.server(), unsigned.pdu(), PATIENCE);
        asked.await.map_err(NodeError::PolicyServer)
    }

    /// Events that came from elsewhere, with what the room's policy server says of those that it has not signed. Those
    /// that are known, and those of servers that are not in the room, are left as they are: for them it is early.
    ///
    /// # Errors
    /// If the store fails, or there is too much to do.
    pub(crate) async fn with_opinions(
        self: &Arc<Self>,
        room: RoomSn,
        rules: &'static RoomRules,
        events: Vec<Verified>,
    ) -> Result<Vec<Verified>, NodeError> {
        let head = self.store().head();
        let Some(server) = PolicyServer::in_use(&head, room, self.server_name())? else {
            return Ok(events);
        };
        let checker = server.clone();
        let check = move || -> Result<Vec<(Verified, bool)>, rooms::Error> {
            let mut checked = Vec::with_capacity(events.len());
            for event in events {
                let pdu = event.pdu();
                let sender = identifier::domain(pdu.sender()).unwrap_or_default();
                let concerned = !is_exempt(pdu.event_type(), pdu.state_key())
                    && servers::is_joined(&head, room, sender)?
                    && event_log::find_in(&head, room, pdu.event_id())?.is_none();
                checked.push(match concerned && checker.has_signed(rules, pdu) {
                    true => (event.with_opinion(recommends(&checker, true)), false),
                    false => (event, concerned),
                });
            }
            Ok(checked)
        };
        let checked = self.run(Lane::Spare, check).await??;
        let mut answered: Vec<Option<Verified>> = vec![None; checked.len()];
        let mut waiting = Vec::new();
        for (index, (event, asks)) in checked.into_iter().enumerate() {
            match asks {
                true => waiting.push((index, event)),
                false => answered[index] = Some(event),
            }
        }
        let mut waiting = waiting.into_iter();
        let mut questions = JoinSet::new();
        loop {
            while questions.len() < AT_ONCE
                && let Some((index, event)) = waiting.next()
            {
                let (node, server) = (Arc::clone(self), server.clone());
                questions
                    .spawn(async move { (index, node.with_opinion(&server, rules, event).await) });
            }
            match questions.join_next().await {
                Some(answer) => {
                    let (index, event) = answer.map_err(|_| NodeError::Panicked)?;
                    answered[index] = Some(event);
                }
                None => return Ok(answered.into_iter().flatten().collect()),
            }
        }
    }

    /// An event that came from elsewhere, signed by the policy server if that recommends it.
    pub(crate) async fn with_opinion(
        &self,
        server: &PolicyServer,
        rules: &'static RoomRules,
        event: Verified,
    ) -> Verified {
        let pdu = event.pdu();
        let asked = match self.policy_answers.is_silent(server.name()) {
            true => Err(RemoteError::Unreachable(
                "it was not a moment ago".to_owned(),
            )),
            false => {
                self.ask_policy_server(server, pdu, PATIENCE_WITH_OTHERS)
                    .await
            }
        };
        let signed = match asked {
            Ok(signature) => event
                .signed_by(rules, server, &signature)
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match signed {
            Ok(signed) => signed,
            Err(error) => {
                tracing::debug!(
                    room = pdu.room_id(), event = %pdu.event_id(), server = %server.name(), %error,
                    "the policy server does not recommend an event"
                );
                event.with_opinion(recommends(server, false))
            }
        }
    }

    /// The signature of a policy server, if it gives it.
    async fn ask_policy_server(
        &self,
        server: &PolicyServer,
        pdu: &Pdu,
        patience: Duration,
    ) -> Result<Arc<str>, RemoteError> {
        if !self.may_share_room(server.name(), pdu.room_id()) {
            let why = "the room is not shared with its policy server".to_owned();
            return Err(RemoteError::NotAllowed(why));
        }
        let key = (server.clone(), pdu.event_id().clone());
        let ask = async {
            let request = Request::post(SIGN.to_owned(), pdu.json().to_owned())
                .timeout(patience)
                .max_answer(MOST_ANSWER_BYTES);
            match self.remote().call(server.name(), request).await {
                Ok(body) => signature_in(&body, server.name()).map(Answer::Signature),
                // It has looked at the event. That it has too much to do, or is broken, says nothing of it.
                Err(
                    error @ RemoteError::Refused {
                        status: 400..=404, ..
                    },
                ) => Ok(Answer::Refused(error)),
                Err(error) => Err(error),
            }
        };
        let answers = &self.policy_answers;
        match answers.answers.get_or_insert_async(&key, ask).await {
            Ok(answer) => {
                answers.silent.remove(server.name());
                match answer {
                    Answer::Signature(signature) => Ok(signature),
                    Answer::Refused(error) => Err(error),
                }
            }
            Err(error) => {
                if !error.is_sign_of_life() {
                    let until = Instant::now() + SILENCE;
                    answers.silent.insert(Arc::clone(server.name()), until);
                }
                Err(error)
            }
        }
    }
}

fn recommends(server: &PolicyServer, recommends: bool) -> Opinion {
    Opinion {
        server: server.clone(),
        recommends,
    }
}

/// The policy server's signature in its answer, which is a part of the `signatures` of an event.
fn signature_in(body: &[u8], server_name: &str) -> Result<Arc<str>, RemoteError> {
    let signatures: Value = read(body)?;
    let signature = signatures.get(server_name).and_then(|of| of.get(KEY_ID));
    let signature = signature.and_then(Value::as_str).map(Arc::from);
    signature.ok_or_else(|| RemoteError::BadAnswer("no signature".to_owned()))
}

fn wrong_signature(error: rooms::Error) -> NodeError {
    match error {
        rooms::Error::NotRecommended => {
            let why = "a signature that does not hold".to_owned();
            NodeError::PolicyServer(RemoteError::BadAnswer(why))
        }
        error => error.into(),
    }
}
