//! The second opinion on state resolution: ruma's resolver, over whole state maps and walked auth chains.
//!
//! It knows no room version 1; there the reference has one opinion only, as where joins lack join rules.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use event::RoomRules;
use event::auth::{AuthEvent, Membership};
use oracle::Theirs;
use ruma_common::OwnedEventId;
use ruma_common::room_version_rules::RoomVersionRules;
use ruma_events::{StateEventType, TimelineEventType};
use ruma_state_res::utils::event_id_set::EventIdSet;

use crate::reference::State;

type Id = OwnedEventId;

/// The events of a room for the other implementation, under the same numbers as in the reference.
pub(crate) struct Other {
    rules: RoomVersionRules,
    events: Vec<Option<Arc<Theirs>>>,
    /// The auth chain of each event, itself included.
    chains: Vec<BTreeSet<usize>>,
    numbers: HashMap<Id, usize>,
    /// Joins whose `auth_events` have no join rules.
    unruled: BTreeSet<usize>,
}

impl Other {
    pub(crate) fn new(rules: &RoomRules) -> Self {
        Other {
            rules: oracle::rules(rules.version),
            events: Vec::new(),
            chains: Vec::new(),
            numbers: HashMap::new(),
            unruled: BTreeSet::new(),
        }
    }

    /// Takes the next event.
    pub(crate) fn learn(&mut self, event: &AuthEvent) {
        let number = self.events.len();
        let mut chain = BTreeSet::from([number]);
        let theirs = Theirs::read(event.pdu(), event.is_rejected()).map(Arc::new);
        if let Some(theirs) = &theirs {
            for id in &theirs.auth_events {
                if let Some(of) = self.numbers.get(id) {
                    chain.extend(&self.chains[*of]);
                }
            }
            self.numbers.insert(theirs.event_id.clone(), number);
        }
        let has_rules = chain_starts(&theirs).any(|id| {
            let rules = self
                .numbers
                .get(id)
                .and_then(|of| self.events[*of].as_ref());
            rules.is_some_and(|of| of.event_type == TimelineEventType::RoomJoinRules)
        });
        if event.membership() == Some(Membership::Join) && !has_rules {
            self.unruled.insert(number);
        }
        self.events.push(theirs);
        self.chains.push(chain);
    }

    /// The resolution of some states; `None` in room version 1, and where joins without join rules are in question: the
    /// specification does not say what holds then, and the other implementation refuses them all, while members who
    /// join again were always let in.
    pub(crate) fn resolve(&self, states: &[&State]) -> Option<Result<State, String>> {
        let rules = self.rules.state_res.v2_rules()?;
        let id = |number: &usize| {
            let event = self.events[*number].as_ref();
            event
                .map(|event| event.event_id.clone())
                .ok_or("an event in a state can't be read")
        };
        let maps: Result<Vec<ruma_state_res::StateMap<Id>>, &str> = states
            .iter()
            .map(|state| {
                let entry = |((event_type, state_key), number): (&(Box<str>, Box<str>), &usize)| {
                    let key = (StateEventType::from(&**event_type), state_key.to_string());
                    Ok((key, id(number)?))
                };
                state.iter().map(entry).collect()
            })
            .collect();
        let maps = match maps {
            Ok(maps) => maps,
            Err(error) => return Some(Err(error.to_owned())),
        };
        let chains: Vec<BTreeSet<usize>> = states
            .iter()
            .map(|state| {
                state
                    .values()
                    .flat_map(|number| &self.chains[*number])
                    .copied()
                    .collect()
            })
            .collect();
        // Also where it is in the chain of every state: it may be in conflict as an entry, or between two that are.
        if chains
            .iter()
            .flatten()
            .any(|number| self.unruled.contains(number))
        {
            return None;
        }
        let chains = chains
            .iter()
            .map(|chain| {
                chain
                    .iter()
                    .filter_map(|number| id(number).ok())
                    .collect::<EventIdSet<Id>>()
            })
            .collect();
        let resolved = ruma_state_res::resolve(
            &self.rules.authorization,
            rules,
            maps.iter(),
            chains,
            |id| self.events[*self.numbers.get(id)?].clone(),
            |conflicted| Some(self.subgraph(conflicted)),
        );
        Some(resolved.map_err(|error| error.to_string()).map(|resolved| {
            let entry = |((event_type, state_key), id): ((StateEventType, String), Id)| {
                (
                    (event_type.to_string().into(), state_key.into()),
                    self.numbers[&id],
                )
            };
            resolved.into_iter().map(entry).collect()
        }))
    }

    /// The events between two of the set: in the chain of one, with another in their own.
    fn subgraph(&self, conflicted: &ruma_state_res::StateMap<Vec<Id>>) -> EventIdSet<Id> {
        let set: BTreeSet<usize> = conflicted
            .values()
            .flatten()
            .filter_map(|id| self.numbers.get(id).copied())
            .collect();
        let below: BTreeSet<usize> = set
            .iter()
            .flat_map(|number| &self.chains[*number])
            .copied()
            .collect();
        below
            .iter()
            .filter(|number| {
                self.chains[**number]
                    .iter()
                    .any(|other| set.contains(other))
            })
            .filter_map(|number| self.events[*number].as_ref())
            .map(|event| event.event_id.clone())
            .collect()
    }
}

fn chain_starts(event: &Option<Arc<Theirs>>) -> impl Iterator<Item = &Id> {
    event.iter().flat_map(|event| &event.auth_events)
}
