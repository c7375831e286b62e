//! Unread counts: a fold over a room's events after the user's receipts, kept in memory as far as it
//! has come and carried on from there. Nothing is written when a message is sent, whatever the number of
//! members; only who syncs is counted for.
//! <https://spec.matrix.org/v1.19/client-server-api/#receiving-notifications>

use std::sync::Arc;

use event::auth::PowerLevels;
use event::{AuthEvent, RoomRules, json};
use names::{RoomSn, UserSn};
use quick_cache::sync::Cache;
use rooms::{EventNo, RoomHead, StoredEvent, event_log, receipts, state};
use store::{Position, Read};
use users::push::rules::{changed_at, get as push_rules};
use users::push::{Actions, EventFacts, Ruleset, UserFacts, evaluate};
use users::unread::{Receipts, Unread};

use crate::Result;

#[derive(Clone)]
struct Counted {
    receipts: Receipts,
    rules: Option<Position>,
    /// The place up to which events were counted.
    upto: EventNo,
    unread: Unread,
}

/// Events counted back from the newest; what is older than that stays uncounted.
const MOST_COUNTED: u64 = 20_000;

/// Counts as far as they were counted, by user and room; and push rules as they are evaluated, by user.
pub struct UnreadCounts {
    counts: Cache<(UserSn, RoomSn), Arc<Counted>>,
    rules: Cache<UserSn, (Option<Position>, Ruleset)>,
}

impl Default for UnreadCounts {
    fn default() -> Self {
        Self {
            counts: Cache::new(200_000),
            rules: Cache::new(20_000),
        }
    }
}

/// The room and user to count for.
pub struct Subject<'a> {
    /// The user.
    pub user: UserSn,
    /// The user's id.
    pub user_id: &'a str,
    /// The room.
    pub room: RoomSn,
    /// The room's id.
    pub room_id: &'a str,
    /// Where the room has got to.
    pub head: &'a RoomHead,
    /// The user's member event: what came before it is not unread.
    pub joined_at: EventNo,
}

impl UnreadCounts {
    /// A user's push rules as they are evaluated, and when they were changed.
    pub fn ruleset(&self, from: &impl Read, user: UserSn) -> Result<(Option<Position>, Ruleset)> {
        let changed = changed_at(from, user)?;
        if let Some(kept) = self.rules.get(&user)
            && kept.0 == changed
        {
            return Ok(kept);
        }
        let rules = Ruleset::new(&push_rules(from, user)?);
        self.rules.insert(user, (changed, rules.clone()));
        Ok((changed, rules))
    }

    /// The unread events of a room.
    pub fn count(&self, from: &impl Read, of: &Subject<'_>) -> Result<Unread> {
        let mut read = Receipts::default();
        for (_, thread, receipt) in receipts::own(from, of.room, of.user)? {
            read.add(thread.as_deref(), receipt.event.0);
        }
        let (rules_at, rules) = self.ruleset(from, of.user)?;
        let key = (of.user, of.room);
        let mut counted = match self.counts.get(&key) {
            Some(kept)
                if kept.receipts == read && kept.rules == rules_at && kept.upto <= of.head.next =>
            {
                if kept.upto == of.head.next {
                    return Ok(kept.unread.clone());
                }
                Counted::clone(&kept)
            }
            _ => Counted {
                upto: EventNo(read.everything_read_to() + 1)
                    .max(of.joined_at.next())
                    .max(event_log::back(from, of.room, of.head.next, MOST_COUNTED)?),
                receipts: read,
                rules: rules_at,
                unread: Unread::default(),
            },
        };
        fold(from, of, &rules, &mut counted)?;
        let unread = counted.unread.clone();
        self.counts.insert(key, Arc::new(counted));
        Ok(unread)
    }
}

fn fold(from: &impl Read, of: &Subject<'_>, rules: &Ruleset, counted: &mut Counted) -> Result<()> {
    if counted.upto >= of.head.next {
        return Ok(());
    }
    let room = RoomFacts::read(from, of)?;
    for row in event_log::forwards(from, of.room, counted.upto) {
        let (no, event) = row?;
        if no.is_past() {
            // It was never news.
            continue;
        }
        let thread = event.thread_root.as_deref();
        if event.sender == of.user {
            // Who writes has read what is there.
            match thread {
                None => counted.unread.main = Default::default(),
                Some(root) => {
                    counted.unread.threads.remove(root);
                }
            }
        } else if event.flags.is_visible() && !counted.receipts.is_read(no.0, thread) {
            room.add(of, rules, &event, &mut counted.unread);
        }
    }
    counted.upto = of.head.next;
    Ok(())
}

/// What push rules may ask of the room.
pub struct RoomFacts {
    rules: Option<&'static RoomRules>,
    create: Option<AuthEvent>,
    levels: Option<AuthEvent>,
    notification_levels: std::collections::BTreeMap<String, i64>,
    display_name: Option<String>,
}

impl RoomFacts {
    /// Reads what rules may ask.
    pub fn read(from: &impl Read, of: &Subject<'_>) -> Result<Self> {
        let keys = [
            ("m.room.create", ""),
            ("m.room.power_levels", ""),
            ("m.room.member", of.user_id),
        ];
        let rules = of.head.rules();
        let mut events = Vec::with_capacity(3);
        for no in state::current_many(from, of.room, &keys)? {
            let event = match no {
                Some(no) => event_log::get(from, of.room, no)?,
                None => None,
            };
            let pdu = event.zip(rules).and_then(|(event, rules)| {
                let pdu =
                    event::Pdu::from_stored(rules, event.event_id.clone(), event.json.as_bytes());
                pdu.ok().map(|pdu| AuthEvent::new(rules, pdu))
            });
            events.push(pdu);
        }
        let member = events.pop().flatten();
        let levels = events.pop().flatten();
        let create = events.pop().flatten();
        let mut notification_levels = std::collections::BTreeMap::new();
        let levels_content = levels.as_ref().map_or("{}", |event| event.pdu().content());
        if let Some(notifications) =
            json::member(levels_content, "notifications").filter(|it| json::is_object(it))
        {
            for (key, level) in json::members(notifications) {
                if let Some((key, level)) = json::string(key).zip(json::integer(level)) {
                    notification_levels.insert(key.into_owned(), level);
                }
            }
        }
        let display_name = member.and_then(|event| {
            event
                .pdu()
                .content_str("displayname")
                .map(|name| name.into_owned())
        });
        Ok(Self {
            rules,
            create,
            levels,
            notification_levels,
            display_name,
        })
    }

    fn power_level(&self, user_id: &str) -> i64 {
        let levels = self
            .rules
            .zip(self.create.as_ref())
            .and_then(|(rules, create)| {
                PowerLevels::of_events(rules, create, self.levels.as_ref())
            });
        match levels.map(|levels| levels.user(user_id)) {
            Some(event::auth::PowerLevel::Level(level)) => level,
            Some(event::auth::PowerLevel::Creator) => i64::MAX,
            None => 0,
        }
    }

    fn add(&self, of: &Subject<'_>, rules: &Ruleset, event: &StoredEvent, unread: &mut Unread) {
        let actions = self.actions(of, rules, event);
        unread.add(event.thread_root.as_deref(), actions);
    }

    /// What a user's rules say of an event.
    pub fn actions<'r>(
        &self,
        of: &Subject<'_>,
        rules: &'r Ruleset,
        event: &StoredEvent,
    ) -> &'r Actions {
        let text = |key| json::member(&event.json, key).and_then(json::string);
        let (kind, sender) = (
            text("type").unwrap_or_default(),
            text("sender").unwrap_or_default(),
        );
        let state_key = text("state_key");
        let content = json::member(&event.json, "content").unwrap_or("{}");
        let mut facts = EventFacts::new(
            of.room_id,
            &kind,
            &sender,
            state_key.as_deref(),
            content.as_bytes(),
        );
        facts.member_count = of.head.joined;
        facts.sender_power_level = self.power_level(&sender);
        facts.notification_levels = &self.notification_levels;
        let me = UserFacts {
            user_id: of.user_id,
            display_name: self.display_name.as_deref(),
        };
        evaluate(rules, &facts, &me)
    }
}
