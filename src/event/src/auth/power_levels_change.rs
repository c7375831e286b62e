//! The rule for `m.room.power_levels`: who may change which level.
//!
//! Comments give the rule's number within the power levels rule of room version 12.

use super::Context;
use super::auth_event::StateLookup;
use super::power_levels::{
    Field, Levels, MalformedPowerLevels, PowerLevel, PowerLevels, PowerLevelsContent,
};
use super::rule::{AuthError, Rule};

pub(super) fn check<S: StateLookup + ?Sized>(
    context: &Context<'_, S>,
    levels: &PowerLevels<'_>,
    sender_level: PowerLevel,
) -> Result<(), AuthError> {
    // 1. to 3.
    let new = PowerLevelsContent::parse(context.rules, context.pdu.content()).map_err(|error| {
        context.reject(match error {
            MalformedPowerLevels::Field(_) => Rule::PowerLevelsField,
            MalformedPowerLevels::Map(_) => Rule::PowerLevelsMap,
            MalformedPowerLevels::Users => Rule::PowerLevelsUsers,
        })
    })?;
    // 4.
    if context.rules.auth.creators_privileged
        && new
            .users
            .iter()
            .any(|(id, _)| context.creators.contains(id))
    {
        return Err(context.reject(Rule::PowerLevelsCreator));
    }
    // 5.
    let Some(current) = levels.content() else {
        return Ok(());
    };
    // 6.
    for field in Field::ALL {
        let (old, new) = (current.field(field), new.field(field));
        if old == new {
            continue;
        }
        // What is not written has its default value.
        if sender_level < old.unwrap_or(field.default_level()) {
            return Err(context.reject(Rule::PowerLevelsFieldCurrent));
        }
        if sender_level < new.unwrap_or(field.default_level()) {
            return Err(context.reject(Rule::PowerLevelsFieldNew));
        }
    }
    // 7. and 8.
    let maps = [
        Some((&current.events, &new.events)),
        Some((&current.notifications, &new.notifications))
            .filter(|_| context.rules.auth.notifications_levels),
    ];
    for (current, new) in maps.into_iter().flatten() {
        for change in changes(current, new) {
            if change.old.is_some_and(|old| sender_level < old) {
                return Err(context.reject(Rule::PowerLevelsEventCurrent));
            }
            if change.new.is_some_and(|new| sender_level < new) {
                return Err(context.reject(Rule::PowerLevelsEventNew));
            }
        }
    }
    // 9. and 10.
    for change in changes(&current.users, &new.users) {
        let own = change.key == context.pdu.sender();
        if !own && change.old.is_some_and(|old| sender_level <= old) {
            return Err(context.reject(Rule::PowerLevelsUserCurrent));
        }
        if change.new.is_some_and(|new| sender_level < new) {
            return Err(context.reject(Rule::PowerLevelsUserNew));
        }
    }
    Ok(())
}

struct Change<'a> {
    key: &'a str,
    old: Option<i64>,
    new: Option<i64>,
}

/// The entries that differ between two sorted lists.
fn changes<'a>(old: &'a Levels, new: &'a Levels) -> impl Iterator<Item = Change<'a>> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    std::iter::from_fn(move || {
        loop {
            let change = match (old.peek(), new.peek()) {
                (None, None) => return None,
                (Some((a, _)), Some((b, _))) if a == b => {
                    let (key, old) = old.next()?;
                    let (_, new) = new.next()?;
                    Change {
                        key,
                        old: Some(*old),
                        new: Some(*new),
                    }
                }
                (Some((a, _)), b) if b.is_none_or(|(b, _)| a < b) => {
                    let (key, old) = old.next()?;
                    Change {
                        key,
                        old: Some(*old),
                        new: None,
                    }
                }
                _ => {
                    let (key, new) = new.next()?;
                    Change {
                        key,
                        old: None,
                        new: Some(*new),
                    }
                }
            };
            if change.old != change.new {
                return Some(change);
            }
        }
    })
}
