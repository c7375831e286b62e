//! A server that builds events by hand: on any old fork point it likes, dated anyhow, rightly signed or not.
//!
//! It can't be told from a server that was cut off for long, so its events are judged like all others, and the honest
//! servers have to agree about them. What it answers when it is asked is honest: a server that lies about the state at an
//! event that nobody else can judge gets away with it by the specification.

use event::{EventIdFormat, Pdu, RoomRules, SigningKey, hash};
use serde_json::{Value, json};

use crate::draft::Draft;
use crate::people::{People, Sight};
use crate::random::Random;
use crate::reference::{Disagreement, Reference, State};

/// What a forger works with.
pub struct Forger<'a> {
    /// Everybody.
    pub people: &'a People,
    /// The server that forges.
    pub server: usize,
    /// Its key.
    pub key: &'a SigningKey,
    /// The events it has, by number.
    pub held: Vec<usize>,
    /// Ids of events of other rooms.
    pub elsewhere: &'a [String],
    /// The present, in ms.
    pub now_ms: u64,
}

/// An event that was built by hand.
pub struct Forgery {
    /// What goes over the network.
    pub bytes: String,
    /// What is wrong with it, if anything.
    pub intent: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trick {
    /// Nothing but the place: all is right for the fork point.
    None,
    AuthMissing,
    AuthOld,
    AuthUnneeded,
    AuthTwice,
    AuthUnknown,
    AuthElsewhere,
    PrevUnknown,
    PrevElsewhere,
    PrevMany,
    PrevNone,
    PrevTwice,
    BadHash,
    BadSignature,
    OthersName,
    NoSignature,
    Depth,
    Date,
    BadContent,
    BadFormat,
}

const TRICKS: [(u32, Trick); 20] = [
    (30, Trick::None),
    (3, Trick::AuthMissing),
    (8, Trick::AuthOld),
    (3, Trick::AuthUnneeded),
    (2, Trick::AuthTwice),
    (1, Trick::AuthUnknown),
    (1, Trick::AuthElsewhere),
    (1, Trick::PrevUnknown),
    (1, Trick::PrevElsewhere),
    (2, Trick::PrevMany),
    (1, Trick::PrevNone),
    (2, Trick::PrevTwice),
    (5, Trick::BadHash),
    (2, Trick::BadSignature),
    (2, Trick::OthersName),
    (1, Trick::NoSignature),
    (6, Trick::Depth),
    (8, Trick::Date),
    (5, Trick::BadContent),
    (1, Trick::BadFormat),
];

/// The room as it is at a fork point.
struct At<'a>(&'a Reference, &'a State, &'a [usize]);

impl Sight for At<'_> {
    fn content(&self, event_type: &str, state_key: &str) -> Option<String> {
        let number = self.1.get(&(event_type.into(), state_key.into()))?;
        Some(self.0.entry(*number).pdu().content().to_owned())
    }

    fn some_event(&self, random: &mut Random) -> Option<String> {
        let number = random.pick(self.2)?;
        Some(self.0.entry(*number).pdu().event_id().to_string())
    }
}

impl Forger<'_> {
    /// Builds an event.
    ///
    /// # Errors
    /// If the two resolvers disagree about the state that it builds on.
    pub fn forge(
        &self,
        random: &mut Random,
        reference: &mut Reference,
    ) -> Result<Option<Forgery>, Disagreement> {
        let prev = self.fork_point(random);
        let state = reference.merged(&prev)?;
        let reference = &*reference;
        let trick = random.weighted(&TRICKS).unwrap_or(Trick::None);
        let sight = At(reference, &state, &self.held);
        let sender = self.people.actor(random, self.server, &sight);
        let intention = self
            .people
            .intention(random, reference.rules(), sender, &sight);
        let event_id = format!("${:x}:{}", random.number(), self.key.server_name());
        let mut draft = Draft::new(reference, intention, &prev, &state, self.now_ms, event_id);
        self.spoil_draft(random, reference, trick, &mut draft);
        let signer = self.signer(random, trick, &mut draft);
        let Some(pdu) = signer.and_then(|key| draft.seal(reference, &key)) else {
            return Ok(None);
        };
        Ok(spoil(random, trick, &pdu).map(|bytes| Forgery {
            bytes,
            intent: name(trick),
        }))
    }

    fn fork_point(&self, random: &mut Random) -> Vec<usize> {
        let mut prev = Vec::new();
        for _ in 0..random.one_of([1, 1, 1, 1, 2, 2, 3]) {
            let back = match random.chance(650) {
                true => random.below(8),
                false => random.below(self.held.len()),
            };
            if let Some(number) = self.held.iter().rev().nth(back)
                && !prev.contains(number)
            {
                prev.push(*number);
            }
        }
        prev
    }

    fn spoil_draft(
        &self,
        random: &mut Random,
        reference: &Reference,
        trick: Trick,
        draft: &mut Draft,
    ) {
        let state_events = |of: &str| -> Vec<String> {
            let entries = self
                .held
                .iter()
                .map(|number| reference.entry(*number).pdu());
            entries
                .filter(|pdu| {
                    pdu.state_key().is_some() && (of.is_empty() || pdu.event_type() == of)
                })
                .map(|pdu| pdu.event_id().to_string())
                .collect()
        };
        match trick {
            Trick::AuthMissing if !draft.auth.is_empty() => {
                draft.auth.remove(random.below(draft.auth.len()));
            }
            Trick::AuthOld => self.take_old_auth_event(random, reference, draft),
            Trick::AuthUnneeded => draft.auth.extend(random.pick(&state_events("")).cloned()),
            Trick::AuthTwice => {
                let of = random.one_of(["m.room.power_levels", "m.room.member"]);
                draft.auth.extend(random.pick(&state_events(of)).cloned());
            }
            Trick::AuthUnknown => draft.auth.push(self.unknown_id(random, reference.rules())),
            Trick::PrevUnknown => draft.prev.push(self.unknown_id(random, reference.rules())),
            Trick::AuthElsewhere => draft.auth.extend(random.pick(self.elsewhere).cloned()),
            Trick::PrevElsewhere => draft.prev.extend(random.pick(self.elsewhere).cloned()),
            Trick::PrevMany => {
                // One too many at times, which is not in the event format.
                while draft.prev.len() < 22 && !random.chance(70) {
                    let number = random.pick(&self.held).copied().unwrap_or_default();
                    draft
                        .prev
                        .push(reference.entry(number).pdu().event_id().to_string());
                }
            }
            Trick::PrevNone => draft.prev.clear(),
            Trick::PrevTwice => draft.prev.extend(draft.prev.first().cloned()),
            Trick::Depth => {
                let max = reference.rules().max_depth;
                draft.depth = random.one_of([0, 1, 2, draft.depth + 1000, max, max - 1]);
            }
            Trick::Date => {
                draft.time = random.one_of([
                    0,
                    1,
                    -1,
                    draft.time / 2,
                    draft.time + 1_000_000,
                    (1 << 53) - 1,
                ]);
                // What is before 1970 is no time for the other resolver.
                draft.time = draft.time.max(0);
            }
            Trick::BadContent => self.spoil_content(random, draft),
            _ => {}
        }
    }

    /// An entry as it was once: the levels from before one lost them, the membership from before the ban.
    fn take_old_auth_event(&self, random: &mut Random, reference: &Reference, draft: &mut Draft) {
        let place = random.below(draft.auth.len());
        let Some(current) = draft.auth.get(place).and_then(|id| reference.find(id)) else {
            return;
        };
        let pdu = reference.entry(current).pdu();
        let is_same = |number: &usize| {
            let old = reference.entry(*number).pdu();
            old.event_type() == pdu.event_type() && old.state_key() == pdu.state_key()
        };
        let old: Vec<usize> = self.held.iter().copied().filter(is_same).collect();
        if let Some(old) = random.pick(&old) {
            draft.auth[place] = reference.entry(*old).pdu().event_id().to_string();
        }
    }

    fn spoil_content(&self, random: &mut Random, draft: &mut Draft) {
        let content = &mut draft.intention.content;
        match draft.intention.event_type {
            "m.room.member" => {
                content["membership"] = random
                    .one_of(["", "joined", "ban", "leave", "knock"])
                    .into();
            }
            "m.room.power_levels" => {
                let field = random.one_of(["ban", "users_default", "events_default", "invite"]);
                content[field] = random
                    .one_of([1_000_000, -1, 100, (1_i64 << 53) - 1])
                    .into();
            }
            _ => {
                draft.intention.state_key =
                    Some(random.one_of(["@u0:s0.example", "", "a"]).to_owned());
                draft.intention.event_type = random.one_of([
                    "m.room.create",
                    "m.room.power_levels",
                    "m.room.topic",
                    "m.room.member",
                ]);
            }
        }
    }

    fn unknown_id(&self, random: &mut Random, rules: &RoomRules) -> String {
        match rules.event_id {
            EventIdFormat::Chosen => format!("${:x}:{}", random.number(), self.key.server_name()),
            _ => format!(
                "${}",
                hash::base64_encode(&random.bytes()).replace(['+', '/'], "A")
            ),
        }
    }

    /// Who signs: the forger, or for another in their name, rightly or with a key that is not theirs.
    fn signer(&self, random: &mut Random, trick: Trick, draft: &mut Draft) -> Option<SigningKey> {
        if trick != Trick::OthersName {
            return Some(self.key.clone());
        }
        let other = &self.people.of[random.below(self.people.of.len())];
        draft.intention.sender.clone_from(random.pick(other)?);
        if random.chance(500) {
            return Some(self.key.clone());
        }
        let server_name = draft.intention.sender.split_once(':')?.1;
        SigningKey::from_seed(server_name, KEY_VERSION, random.bytes()).ok()
    }
}

/// The part of every server's key id after `ed25519:`.
pub const KEY_VERSION: &str = "1";

/// What is done to the sealed event.
fn spoil(random: &mut Random, trick: Trick, pdu: &Pdu) -> Option<String> {
    let text = pdu.json();
    let with = |key: &str, value: Value| {
        let mut event: Value = serde_json::from_str(text).ok()?;
        event[key] = value;
        String::from_utf8(event::canonical::to_bytes(&event).ok()?).ok()
    };
    match trick {
        Trick::BadHash => {
            // What redaction takes away, so that the signatures still hold.
            let mut content: Value = serde_json::from_str(pdu.content()).ok()?;
            content["smuggled"] = random.below(1000).into();
            with("content", content)
        }
        Trick::BadSignature => {
            let mut signatures: Value =
                serde_json::from_str(event::json::member(text, "signatures")?).ok()?;
            for server in signatures.as_object_mut()?.values_mut() {
                for signature in server.as_object_mut()?.values_mut() {
                    let turned: String = signature.as_str()?.chars().rev().collect();
                    *signature = turned.into();
                }
            }
            with("signatures", signatures)
        }
        Trick::NoSignature => with("signatures", json!({})),
        Trick::BadFormat => {
            let (key, value) = random.one_of([
                ("depth", -1),
                ("content", 0),
                ("sender", 0),
                ("prev_events", 0),
                ("auth_events", 0),
                ("signatures", 0),
                ("state_key", 7),
            ]);
            with(key, value.into())
        }
        _ => Some(text.to_owned()),
    }
}

fn name(trick: Trick) -> &'static str {
    match trick {
        Trick::None => "forged on a fork of its choice",
        Trick::AuthMissing => "forged, an auth event left out",
        Trick::AuthOld => "forged, an old auth event",
        Trick::AuthUnneeded => "forged, an auth event too many",
        Trick::AuthTwice => "forged, two auth events for one entry",
        Trick::AuthUnknown => "forged, an auth event that is not there",
        Trick::AuthElsewhere => "forged, an auth event of another room",
        Trick::PrevElsewhere => "forged, a previous event of another room",
        Trick::PrevMany => "forged, many previous events",
        Trick::PrevUnknown => "forged, a previous event that is not there",
        Trick::PrevNone => "forged, no previous event",
        Trick::PrevTwice => "forged, a previous event twice",
        Trick::BadHash => "forged, the content hash is wrong",
        Trick::BadSignature => "forged, the signature is wrong",
        Trick::OthersName => "forged in the name of another",
        Trick::NoSignature => "forged, not signed",
        Trick::Depth => "forged, any depth",
        Trick::Date => "forged, any date",
        Trick::BadContent => "forged, strange content",
        Trick::BadFormat => "forged, not in the event format",
    }
}
