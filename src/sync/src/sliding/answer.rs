//! A whole answer: which rooms the rules show, what is told of each, and the state that comes of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use event::auth::Membership;
use event::json;
use names::RoomSn;
use rooms::UserRoom;
use store::{At, Read, View};

use crate::sliding::connection::{Pos, State, Told, weight};
use crate::sliding::extensions::{Match, Progress, Writer};
use crate::sliding::facts::UserFacts;
use crate::sliding::filters::Sieve;
use crate::sliding::request::RoomConfig;
use crate::sliding::room::{Part, Shared, is_out};
use crate::sliding::room_list::{Listed, RoomList};
use crate::sliding::{Asked, Changes};
use crate::{Memory, Result};

/// An answer.
pub struct Answer {
    /// The JSON.
    pub body: Vec<u8>,
    /// It holds something that the client did not know: a long poll ends.
    pub news: bool,
    /// What the connection was told when the answer has arrived.
    pub state: State,
}

/// Builds an answer from one view. `rooms` are the user's rooms in that view; `base` is the state that
/// goes with the request's position.
///
/// # Errors
/// If the store can't be read.
pub fn build(
    view: &View,
    memory: &Memory,
    changes: &Changes<'_>,
    rooms: &[(RoomSn, At<UserRoom>)],
    base: Option<&State>,
    asked: &Asked<'_>,
) -> Result<Answer> {
    let (user, user_id) = (asked.user, asked.user_id);
    let kept = &memory.sliding;
    let user_facts = kept.facts.user(view, user, user_id, changes)?;
    let list = kept.lists.of(view, (user, user_id), rooms, changes)?;
    let shared = Shared {
        asked,
        view,
        memory,
        changes,
        user: &user_facts,
        since: base.map(|base| base.pos.position),
    };
    let pos = Pos {
        generation: asked.generation,
        position: view.position(),
    };
    let mut progress = Progress::new(base.map(|base| &*base.rooms));
    let (mut matches, counts) = find(&shared, &list, &progress)?;
    let mut configs = Configs::new(base, asked);

    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(format!("{{\"pos\":\"{pos}\"").as_bytes());
    write_counts(&mut out, &counts);
    let mut news = base.is_none_or(|base| base.counts != counts);
    news |= write_rooms(&mut out, &shared, &mut matches, &mut configs, &mut progress)?;

    let mut state = State {
        pos,
        rules: Arc::clone(&asked.request.rules),
        rooms: base.map_or_else(Arc::default, |base| Arc::clone(&base.rooms)),
        configs: configs.used,
        counts,
        account_data: base.and_then(|base| base.account_data),
        account_data_missed: base
            .map_or_else(Arc::default, |base| Arc::clone(&base.account_data_missed)),
        e2ee: base.and_then(|base| base.e2ee),
        bytes: base.map_or(0, |base| base.bytes),
    };
    let mut writer = Writer {
        shared: &shared,
        rooms,
        matches: &matches,
        base,
        progress: &mut progress,
        news: false,
    };
    write_extensions(&mut out, &mut writer, &mut state)?;
    news |= writer.news;
    out.push(b'}');
    advance(&mut state, progress.into_changed());
    Ok(Answer {
        body: out,
        news,
        state,
    })
}

/// Takes what was told of rooms over into the next state.
fn advance(state: &mut State, told: HashMap<RoomSn, Told>) {
    if told.is_empty() {
        return;
    }
    let rooms = Arc::make_mut(&mut state.rooms);
    for (room, told) in told {
        rooms.insert(room, Arc::new(told));
    }
    state.bytes = weight(rooms);
}

/// Whether a room is among those that lists are windows on.
fn is_listed(listed: &Listed, progress: &Progress<'_>, user: &UserFacts) -> bool {
    let told = || progress.before(listed.room);
    match listed.membership() {
        Membership::Join => true,
        Membership::Invite | Membership::Knock => {
            listed.by.is_none_or(|by| !user.ignored.contains(&by))
        }
        // A room that was left and forgotten since is told as left, once.
        _ if listed.of.value.forgotten => told().is_some_and(|told| !is_out(told.membership)),
        _ => listed.was_removed || told().is_some(),
    }
}

/// The rooms that the rules show, the most active first, and how many rooms each list has.
fn find<'l>(
    shared: &Shared<'_>,
    list: &'l RoomList,
    progress: &Progress<'_>,
) -> Result<(Vec<Match<'l>>, BTreeMap<String, u64>)> {
    let rules = &shared.asked.request.rules;
    let sieve = Sieve {
        view: shared.view,
        memory: shared.memory,
        changes: shared.changes,
        asked: shared.asked,
        user: shared.user,
        list,
    };
    let mut masks = vec![0u128; list.by_room.len()];
    let mut counts = BTreeMap::new();
    let is_listed = |listed: &Listed| is_listed(listed, progress, shared.user);
    for (n, (name, of)) in rules.lists.iter().enumerate() {
        let prepared = sieve.prepare(&of.filters)?;
        let mut count = 0;
        for place in &list.order {
            let place = *place as usize;
            let listed = &list.by_room[place];
            if is_listed(listed) && sieve.passes(&prepared, listed)? {
                if of.covers(count) {
                    masks[place] |= 1 << n;
                }
                count += 1;
            }
        }
        counts.insert(name.clone(), count);
    }
    let mut subscribed = vec![false; list.by_room.len()];
    for id in rules.subscriptions.keys() {
        let Some(room) = names::room_sn(shared.view, id)? else {
            continue;
        };
        let Some(place) = list.place(room) else {
            continue;
        };
        // A room that the user left may be looked back at; one that they forgot may not.
        let listed = &list.by_room[place];
        let left = is_out(listed.membership()) && !listed.of.value.forgotten;
        subscribed[place] = is_listed(listed) || (left && was_in(shared, listed)?);
    }
    let mut matches = Vec::new();
    for place in &list.order {
        let place = *place as usize;
        if masks[place] != 0 || subscribed[place] {
            matches.push(Match {
                listed: &list.by_room[place],
                lists: masks[place],
                subscribed: subscribed[place],
                shown: None,
            });
        }
    }
    Ok((matches, counts))
}

fn was_in(shared: &Shared<'_>, listed: &Listed) -> Result<bool> {
    let viewer = Some((shared.asked.user, shared.asked.user_id));
    let visibility = rooms::visibility::Visibility::of(shared.view, listed.room, viewer)?;
    Ok(visibility.was_joined())
}

/// What is asked of rooms, by the rules that show them. What is the same as in the last request is the
/// same allocation, so that rooms are compared by it.
struct Configs<'a> {
    asked: &'a Asked<'a>,
    before: &'a [Arc<RoomConfig>],
    used: Vec<Arc<RoomConfig>>,
    by_lists: HashMap<u128, Arc<RoomConfig>>,
}

impl<'a> Configs<'a> {
    fn new(base: Option<&'a State>, asked: &'a Asked<'a>) -> Self {
        Self {
            asked,
            before: base.map_or(&[], |base| &base.configs),
            used: Vec::new(),
            by_lists: HashMap::new(),
        }
    }

    fn of(&mut self, one: &Match<'_>) -> Arc<RoomConfig> {
        if !one.subscribed {
            if let Some(known) = self.by_lists.get(&one.lists) {
                return Arc::clone(known);
            }
            let config = self.unite(one);
            self.by_lists.insert(one.lists, Arc::clone(&config));
            return config;
        }
        self.unite(one)
    }

    fn unite(&mut self, one: &Match<'_>) -> Arc<RoomConfig> {
        let rules = &self.asked.request.rules;
        let mut config = RoomConfig::default();
        for (_, of) in lists_of(&rules.lists, one.lists) {
            config.unite(&of.config);
        }
        if one.subscribed
            && let Some(subscription) = rules.subscriptions.get(&*one.listed.room_id)
        {
            config.unite(subscription);
        }
        let same = |known: &&Arc<RoomConfig>| ***known == config;
        if let Some(known) = self.used.iter().find(same) {
            return Arc::clone(known);
        }
        let config = match self.before.iter().find(same) {
            Some(known) => Arc::clone(known),
            None => Arc::new(config),
        };
        self.used.push(Arc::clone(&config));
        config
    }
}

fn lists_of<T>(lists: &[T], mask: u128) -> impl Iterator<Item = &T> {
    let is_in = move |(n, _): &(usize, &T)| mask >> n & 1 == 1;
    lists.iter().enumerate().filter(is_in).map(|(_, list)| list)
}

fn write_counts(out: &mut Vec<u8>, counts: &BTreeMap<String, u64>) {
    if counts.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"lists\":{");
    for (n, (name, count)) in counts.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        json::write_string(out, name);
        out.extend_from_slice(format!(":{{\"count\":{count}}}").as_bytes());
    }
    out.push(b'}');
}

/// Appends the rooms that have something new. Says whether there are any.
fn write_rooms<'a>(
    out: &mut Vec<u8>,
    shared: &Shared<'a>,
    matches: &mut [Match<'_>],
    configs: &mut Configs<'_>,
    progress: &mut Progress<'a>,
) -> Result<bool> {
    out.extend_from_slice(b",\"rooms\":{");
    let begin = out.len();
    for one in matches {
        let config = configs.of(one);
        let names = lists_of(&shared.asked.request.rules.lists, one.lists);
        let mut part = Part {
            listed: one.listed,
            config: &config,
            lists: Vec::new(),
            told: progress.before(one.listed.room),
        };
        if !part.is_due(shared) || part.waits_for_members(shared)? {
            continue;
        }
        part.lists = names.map(|(name, _)| name.as_str()).collect();
        let before = out.len();
        if before > begin {
            out.push(b',');
        }
        json::write_string(out, &one.listed.room_id);
        out.push(b':');
        let written = part.write(out, shared)?;
        if !written.as_ref().is_some_and(|written| written.news) {
            out.truncate(before);
        }
        if let Some(written) = written {
            one.shown = written.shown;
            progress.set(one.listed.room, written.told);
        }
    }
    let any = out.len() > begin;
    out.push(b'}');
    Ok(any)
}

fn write_extensions(
    out: &mut Vec<u8>,
    writer: &mut Writer<'_, '_>,
    state: &mut State,
) -> Result<()> {
    let asked = &writer.shared.asked.request.extensions;
    let position = writer.shared.view.position();
    out.extend_from_slice(b",\"extensions\":{");
    let begin = out.len();
    let separate = |out: &mut Vec<u8>| {
        if out.len() > begin {
            out.push(b',');
        }
    };
    if let Some(asked) = asked.to_device {
        writer.messages(out, asked)?;
    }
    if asked.e2ee {
        separate(out);
        writer.e2ee(out)?;
        state.e2ee = Some(position);
    }
    if let Some(scope) = &asked.account_data {
        separate(out);
        if let Some(missed) = writer.account_data(out, scope)? {
            state.account_data_missed = Arc::new(missed);
        }
        state.account_data = Some(position);
    }
    if let Some(scope) = &asked.receipts {
        separate(out);
        writer.receipts(out, scope)?;
    }
    if let Some(scope) = &asked.typing {
        separate(out);
        writer.typing(out, scope)?;
    }
    out.push(b'}');
    Ok(())
}
