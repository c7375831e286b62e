//! A user's push rules: what they changed, over the defaults of the server.
//!
//! Only the changes are stored, so that new defaults reach everybody and an untouched account has no
//! row. Invariants: own rules of a kind stand in order, most important first, with distinct ids that
//! do not begin with a dot; each change takes a place in the log of account data.

use std::collections::BTreeMap;

use names::UserSn;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{At, Blob, Position, Read, StoreError, Txn};

use super::defaults;
use crate::schema::PUSH_RULES;
use crate::{Error, Result, account_data};

/// The kinds of rules, in the order they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Checked first.
    Override,
    /// By words of the body.
    Content,
    /// By room; the rule id is the room id.
    Room,
    /// By sender; the rule id is the user id.
    Sender,
    /// Checked last.
    Underride,
}

impl Kind {
    /// All kinds, in the order they are checked.
    pub const ALL: [Kind; 5] = [
        Kind::Override,
        Kind::Content,
        Kind::Room,
        Kind::Sender,
        Kind::Underride,
    ];

    /// The kind of a name in a path.
    pub fn of_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The name in a path.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Override => "override",
            Kind::Content => "content",
            Kind::Room => "room",
            Kind::Sender => "sender",
            Kind::Underride => "underride",
        }
    }
}

/// A push rule as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Unique within its kind.
    pub rule_id: String,
    /// True for rules of the server.
    #[serde(default)]
    pub default: bool,
    /// Disabled rules never match.
    pub enabled: bool,
    /// What to do: texts, or objects with `set_tweak`.
    pub actions: Vec<Value>,
    /// What must hold, for overrides and underrides.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub conditions: Option<Vec<Value>>,
    /// What the body must contain, for content rules.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pattern: Option<String>,
}

/// All rules of a user, as the endpoints and `m.push_rules` tell them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Global {
    /// Checked first.
    #[serde(rename = "override")]
    pub overrides: Vec<Rule>,
    /// By words of the body.
    pub content: Vec<Rule>,
    /// By room.
    pub room: Vec<Rule>,
    /// By sender.
    pub sender: Vec<Rule>,
    /// Checked last.
    pub underride: Vec<Rule>,
}

/// What a client asks for when it adds a rule.
#[derive(Clone, Debug, Default)]
pub struct NewRule {
    /// The actions, as they came.
    pub actions: Vec<Value>,
    /// The conditions, for overrides and underrides.
    pub conditions: Option<Vec<Value>>,
    /// The pattern, for content rules.
    pub pattern: Option<String>,
    /// Put it right before this rule of the user's, more important.
    pub before: Option<String>,
    /// Put it right after this rule of the user's, less important.
    pub after: Option<String>,
}

/// Rules that one user may have of their own.
pub const MAX_RULES: usize = 10_000;
/// The largest set of changes, in bytes of JSON.
pub const MAX_BYTES: usize = 1024 * 1024;
/// The longest rule id, in bytes.
pub const MAX_RULE_ID_BYTES: usize = 512;

/// How a default rule was changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Changed {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    actions: Option<Vec<Value>>,
}

/// What a user made of the rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UserRules {
    /// Own rules, most important first.
    #[serde(default)]
    own: BTreeMap<Kind, Vec<Rule>>,
    /// Changed default rules by id.
    #[serde(default)]
    changed: BTreeMap<String, Changed>,
}

/// The rules of a user.
pub fn get(from: &impl Read, user: UserSn) -> Result<UserRules> {
    Ok(get_at(from, user)?.1)
}

/// The rules of a user and where they were last changed; what is compiled from them is good until
/// then.
pub fn get_at(from: &impl Read, user: UserSn) -> Result<(Option<Position>, UserRules)> {
    let Some(row) = PUSH_RULES.get(from, &user)? else {
        return Ok((None, UserRules::default()));
    };
    let rules = serde_json::from_slice(&row.value.0).map_err(|_| StoreError::Corrupt {
        table: PUSH_RULES.name(),
        why: "push rules that can't be read",
    })?;
    Ok((Some(row.position), rules))
}

/// Where the rules of a user were last changed, without reading them.
pub fn changed_at(from: &impl Read, user: UserSn) -> Result<Option<Position>> {
    Ok(PUSH_RULES.get(from, &user)?.map(|row| row.position))
}

/// Changes the rules of a user.
///
/// # Errors
/// Those of `change`, and [`Error::TooLarge`].
pub fn update(
    txn: &mut Txn,
    user: UserSn,
    change: impl FnOnce(&mut UserRules) -> Result<()>,
) -> Result<()> {
    let (before, mut rules) = get_at(txn, user)?;
    change(&mut rules)?;
    let json = serde_json::to_vec(&rules).map_err(|_| StoreError::Corrupt {
        table: PUSH_RULES.name(),
        why: "push rules that can't be written",
    })?;
    let count: usize = rules.own.values().map(Vec::len).sum();
    if count > MAX_RULES || json.len() > MAX_BYTES {
        return Err(Error::TooLarge("Too many push rules".into()));
    }
    PUSH_RULES.put(txn, &user, &At::now(Blob(json)));
    account_data::log_push_rules(txn, user, before);
    Ok(())
}

impl UserRules {
    /// True if the rules are those of the server.
    pub fn are_default(&self) -> bool {
        self.changed.is_empty() && self.own.values().all(Vec::is_empty)
    }

    /// All rules of a kind with the defaults, most important first.
    pub fn of_kind(&self, kind: Kind, user_id: &str) -> Vec<Rule> {
        let mut defaults = defaults::of_kind(kind, user_id);
        for rule in &mut defaults {
            if let Some(changed) = self.changed.get(&rule.rule_id) {
                rule.enabled = changed.enabled.unwrap_or(rule.enabled);
                if let Some(actions) = &changed.actions {
                    rule.actions.clone_from(actions);
                }
            }
        }
        let first = defaults.partition_point(|rule| rule.rule_id == defaults::MASTER);
        let rest = defaults.split_off(first);
        let own = self.own.get(&kind).into_iter().flatten().cloned();
        defaults.into_iter().chain(own).chain(rest).collect()
    }

    /// All rules.
    pub fn global(&self, user_id: &str) -> Global {
        let of = |kind| self.of_kind(kind, user_id);
        Global {
            overrides: of(Kind::Override),
            content: of(Kind::Content),
            room: of(Kind::Room),
            sender: of(Kind::Sender),
            underride: of(Kind::Underride),
        }
    }

    /// The content of `m.push_rules`.
    pub fn to_account_data(&self, user_id: &str) -> Vec<u8> {
        serde_json::json!({"global": self.global(user_id)})
            .to_string()
            .into_bytes()
    }

    /// One rule.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn rule(&self, kind: Kind, rule_id: &str, user_id: &str) -> Result<Rule> {
        self.of_kind(kind, user_id)
            .into_iter()
            .find(|rule| rule.rule_id == rule_id)
            .ok_or(Error::NotFound("push rule"))
    }

    fn own(&mut self, kind: Kind, rule_id: &str) -> Option<&mut Rule> {
        let rules = self.own.get_mut(&kind)?;
        rules.iter_mut().find(|rule| rule.rule_id == rule_id)
    }

    /// Adds a rule of the user's, or replaces it; a rule keeps its place unless told otherwise, and a
    /// new one becomes the most important.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what may not be, [`Error::Missing`] for a content rule without a pattern,
    /// [`Error::NotFound`] if there is no rule to stand before or after.
    pub fn put(&mut self, kind: Kind, rule_id: &str, new: NewRule) -> Result<()> {
        check_rule_id(rule_id)?;
        let actions = checked_actions(new.actions)?;
        let (conditions, pattern) = match kind {
            Kind::Override | Kind::Underride => {
                let conditions = new.conditions.unwrap_or_default();
                check_conditions(&conditions)?;
                (Some(conditions), None)
            }
            Kind::Content if new.pattern.is_none() => {
                return Err(Error::Missing("A content rule needs a pattern".into()));
            }
            Kind::Content => (None, new.pattern),
            Kind::Room | Kind::Sender => (None, None),
        };
        let rules = self.own.entry(kind).or_default();
        let place = |id: &str| {
            let place = rules.iter().position(|rule| rule.rule_id == id);
            place.ok_or(Error::NotFound("the rule to stand before or after"))
        };
        // With both, `before` counts.
        let beside = match (&new.before, &new.after) {
            (Some(before), _) => Some((place(before)?, 0)),
            (None, Some(after)) => Some((place(after)?, 1)),
            (None, None) => None,
        };
        let old = rules.iter().position(|rule| rule.rule_id == rule_id);
        let rule = Rule {
            rule_id: rule_id.to_owned(),
            default: false,
            enabled: old.is_none_or(|at| rules[at].enabled),
            actions,
            conditions,
            pattern,
        };
        match (old, beside) {
            (Some(old), None) => rules[old] = rule,
            (Some(old), Some((at, _))) if at == old => rules[old] = rule,
            (None, None) => rules.insert(0, rule),
            (old, Some((at, step))) => {
                let mut at = at + step;
                if let Some(old) = old {
                    rules.remove(old);
                    at -= usize::from(old < at);
                }
                rules.insert(at, rule);
            }
        }
        Ok(())
    }

    /// Removes a rule of the user's.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] for a default rule.
    pub fn delete(&mut self, kind: Kind, rule_id: &str) -> Result<()> {
        if defaults::exists(kind, rule_id) {
            return Err(Error::invalid("A default rule can't be deleted"));
        }
        let rules = self.own.entry(kind).or_default();
        let at = rules.iter().position(|rule| rule.rule_id == rule_id);
        rules.remove(at.ok_or(Error::NotFound("push rule"))?);
        Ok(())
    }

    /// Switches a rule on or off.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn set_enabled(&mut self, kind: Kind, rule_id: &str, enabled: bool) -> Result<()> {
        if let Some(rule) = self.own(kind, rule_id) {
            rule.enabled = enabled;
            return Ok(());
        }
        self.changed(kind, rule_id)?.enabled = Some(enabled);
        Ok(())
    }

    /// Gives a rule other actions.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`] for an action that may not be.
    pub fn set_actions(&mut self, kind: Kind, rule_id: &str, actions: Vec<Value>) -> Result<()> {
        let actions = checked_actions(actions)?;
        if let Some(rule) = self.own(kind, rule_id) {
            rule.actions = actions;
            return Ok(());
        }
        self.changed(kind, rule_id)?.actions = Some(actions);
        Ok(())
    }

    fn changed(&mut self, kind: Kind, rule_id: &str) -> Result<&mut Changed> {
        if !defaults::exists(kind, rule_id) {
            return Err(Error::NotFound("push rule"));
        }
        Ok(self.changed.entry(rule_id.to_owned()).or_default())
    }

    /// Carries the rule of a room over to the room that replaces it; true if there was one. A rule of
    /// the new room stays as it is.
    pub fn copy_room(&mut self, old_room: &str, new_room: &str) -> bool {
        let rules = self.own.entry(Kind::Room).or_default();
        let has = |id: &str| rules.iter().position(|rule| rule.rule_id == id);
        let (Some(at), None) = (has(old_room), has(new_room)) else {
            return false;
        };
        let mut rule = rules[at].clone();
        new_room.clone_into(&mut rule.rule_id);
        rules.insert(at, rule);
        true
    }
}

fn check_rule_id(rule_id: &str) -> Result<()> {
    let why = if rule_id.is_empty() || rule_id.len() > MAX_RULE_ID_BYTES {
        "A rule id has 1 to 512 bytes"
    } else if rule_id.starts_with('.') {
        "Rule ids that begin with a dot are the server's"
    } else if rule_id.contains(['/', '\\']) {
        "A rule id can't contain slashes or backslashes"
    } else {
        return Ok(());
    };
    Err(Error::invalid(why))
}

fn check_conditions(conditions: &[Value]) -> Result<()> {
    let has_kind = |condition: &Value| condition.get("kind").is_some_and(Value::is_string);
    if conditions.iter().all(has_kind) {
        Ok(())
    } else {
        Err(Error::invalid("A condition is an object with a kind"))
    }
}

/// The actions, those of the past ("Historical Actions") included.
fn checked_actions(actions: Vec<Value>) -> Result<Vec<Value>> {
    let mut kept = Vec::with_capacity(actions.len());
    for action in actions {
        match &action {
            // Shown again as they were set; "coalesce" was the same as "notify", "dont_notify" nothing.
            Value::String(name)
                if ["notify", "dont_notify", "coalesce"].contains(&name.as_str()) =>
            {
                kept.push(action);
            }
            Value::Object(tweak) if tweak.get("set_tweak").is_some_and(Value::is_string) => {
                kept.push(action);
            }
            _ => return Err(Error::invalid("Unrecognised action")),
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::store;

    const ALICE: UserSn = UserSn(1);

    fn new(actions: Value) -> NewRule {
        NewRule {
            actions: actions.as_array().cloned().unwrap_or_default(),
            pattern: Some("cake".to_owned()),
            ..NewRule::default()
        }
    }

    fn ids(rules: &UserRules, kind: Kind) -> Vec<String> {
        let rules = rules.of_kind(kind, "@a:b").into_iter();
        rules
            .filter(|rule| !rule.default)
            .map(|rule| rule.rule_id)
            .collect()
    }

    #[test]
    fn new_rules_come_first_and_before_and_after_place_them() {
        let mut rules = UserRules::default();
        let mut put = |id: &str, before: Option<&str>, after: Option<&str>| {
            let new = NewRule {
                before: before.map(str::to_owned),
                after: after.map(str::to_owned),
                ..new(json!(["notify"]))
            };
            rules.put(Kind::Content, id, new)?;
            Ok::<_, Error>(ids(&rules, Kind::Content).concat())
        };
        assert_eq!(put("a", None, None).unwrap(), "a");
        assert_eq!(put("b", None, None).unwrap(), "ba");
        assert_eq!(put("c", None, Some("b")).unwrap(), "bca");
        assert_eq!(put("d", Some("a"), None).unwrap(), "bcda");
        assert_eq!(put("d", Some("b"), Some("a")).unwrap(), "dbca");
        assert_eq!(put("b", None, Some("a")).unwrap(), "dcab");
        assert_eq!(put("c", None, None).unwrap(), "dcab");
        assert_eq!(put("c", Some("c"), None).unwrap(), "dcab");
        assert!(matches!(put("e", Some("x"), None), Err(Error::NotFound(_))));
        assert!(put("e", None, Some(".m.rule.call")).is_err());
    }

    #[test]
    fn master_stands_before_own_rules_and_other_defaults_after_them() {
        let mut rules = UserRules::default();
        rules
            .put(Kind::Override, "mine", new(json!(["notify"])))
            .unwrap();
        let ids: Vec<_> = rules
            .of_kind(Kind::Override, "@a:b")
            .into_iter()
            .map(|rule| rule.rule_id)
            .collect();
        assert_eq!(
            ids[..3],
            [".m.rule.master", "mine", ".m.rule.suppress_notices"]
        );
        assert_eq!(ids.len(), 11);
    }

    #[test]
    fn defaults_are_switched_and_given_actions_but_not_deleted() {
        let store = store();
        let mut txn = store.begin();
        let id = ".m.rule.message";
        update(&mut txn, ALICE, |rules| {
            rules.set_enabled(Kind::Underride, id, false)?;
            rules.set_actions(Kind::Underride, id, vec![json!("dont_notify")])
        })
        .unwrap();
        let rule = get(&txn, ALICE).unwrap().rule(Kind::Underride, id, "@a:b");
        let rule = rule.unwrap();
        assert!(!rule.enabled && rule.actions == [json!("dont_notify")] && rule.default);
        let mut rules = UserRules::default();
        let refused = rules.delete(Kind::Underride, id);
        assert!(matches!(refused, Err(Error::Invalid(_))));
        let unknown = rules.set_enabled(Kind::Override, id, true);
        assert!(matches!(unknown, Err(Error::NotFound(_))));
    }

    #[test]
    fn rules_that_may_not_be_are_refused() {
        let mut rules = UserRules::default();
        for id in [".dot", "a/b", "a\\b", "", &"x".repeat(513)] {
            assert!(rules.put(Kind::Room, id, new(json!([]))).is_err(), "{id}");
        }
        for action in [json!("shout"), json!(1), json!({"set_tweak": 1}), json!({})] {
            let refused = rules.put(Kind::Room, "!r:x", new(json!([action])));
            assert!(matches!(refused, Err(Error::Invalid(_))));
        }
        let without_pattern = NewRule {
            pattern: None,
            ..new(json!([]))
        };
        let refused = rules.put(Kind::Content, "c", without_pattern);
        assert!(matches!(refused, Err(Error::Missing(_))));
        let bad_condition = NewRule {
            conditions: Some(vec![json!({"key": "type"})]),
            ..new(json!([]))
        };
        assert!(rules.put(Kind::Override, "o", bad_condition).is_err());
    }

    #[test]
    fn a_change_is_told_as_account_data_at_its_position() {
        let store = store();
        let mut txn = store.begin();
        let put = |rules: &mut UserRules| rules.put(Kind::Room, "!r:x", new(json!([])));
        update(&mut txn, ALICE, put).unwrap();
        let position = store.commit(txn).unwrap().position;
        let head = store.head();
        let before = Position(position.0 - 1);
        let changes = account_data::since(&head, ALICE, "@a:b", before).unwrap();
        let content: Value = serde_json::from_slice(&changes.global[0].content).unwrap();
        assert_eq!(content["global"]["room"][0]["rule_id"], "!r:x");
        assert_eq!(
            content["global"]["override"][0]["rule_id"],
            ".m.rule.master"
        );
        let later = account_data::since(&head, ALICE, "@a:b", position).unwrap();
        assert!(later.global.is_empty());
        assert_eq!(changed_at(&head, ALICE).unwrap(), Some(position));
    }

    #[test]
    fn an_upgraded_room_takes_its_rule_along_once() {
        let mut rules = UserRules::default();
        assert!(!rules.copy_room("!old:x", "!new"));
        rules.put(Kind::Room, "!old:x", new(json!([]))).unwrap();
        assert!(rules.copy_room("!old:x", "!new"));
        assert!(!rules.copy_room("!old:x", "!new"));
        assert_eq!(ids(&rules, Kind::Room), ["!new", "!old:x"]);
    }
}
