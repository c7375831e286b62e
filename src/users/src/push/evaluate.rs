//! What push rules say of an event.
//!
//! Rules are compiled once per user, and what conditions ask of an event is found once per event, so
//! that one event can be held against the rules of all members of a room. Users who changed nothing,
//! nearly all, share one compiled set: where default rules name their user, they ask who is meant.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::glob::Glob;
use super::rules::{Kind, Rule, UserRules};

/// The actions of the rule that matched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Actions {
    /// Tell the user.
    pub notify: bool,
    /// Show it in a different way.
    pub highlight: bool,
    /// The sound to play.
    pub sound: Option<String>,
    /// All tweaks in the order of the rule, for push gateways.
    pub tweaks: Vec<(String, Value)>,
}

static NOTHING: Actions = Actions {
    notify: false,
    highlight: false,
    sound: None,
    tweaks: Vec::new(),
};

impl Actions {
    fn of(actions: &[Value]) -> Self {
        let mut out = Self::default();
        for action in actions {
            if action == "notify" {
                out.notify = true;
            }
            let Some(name) = action.get("set_tweak").and_then(Value::as_str) else {
                continue;
            };
            let value = action.get("value").cloned();
            match name {
                "highlight" => {
                    out.highlight = value.as_ref().and_then(Value::as_bool).unwrap_or(true);
                }
                "sound" => {
                    out.sound = value.as_ref().and_then(Value::as_str).map(str::to_owned);
                }
                _ => {}
            }
            let value = value.unwrap_or(Value::Bool(name == "highlight"));
            out.tweaks.push((name.to_owned(), value));
        }
        out
    }
}

/// What rules may ask of an event and its room.
pub struct EventFacts<'a> {
    /// The room id.
    pub room_id: &'a str,
    /// The event type.
    pub kind: &'a str,
    /// The sender's user id.
    pub sender: &'a str,
    /// The state key of a state event.
    pub state_key: Option<&'a str>,
    /// Joined members of the room.
    pub member_count: u64,
    /// The sender's power level.
    pub sender_power_level: i64,
    /// `notifications` of the room's power levels; a key that is missing takes 50.
    pub notification_levels: &'a BTreeMap<String, i64>,
    content_json: &'a [u8],
    content: OnceCell<Value>,
    body: OnceCell<Option<String>>,
}

/// The level that triggers a notification for all if the room does not say.
const DEFAULT_NOTIFICATION_LEVEL: i64 = 50;

impl<'a> EventFacts<'a> {
    /// The facts of an event with this content (JSON); the room's are set on the fields.
    pub fn new(
        room_id: &'a str,
        kind: &'a str,
        sender: &'a str,
        state_key: Option<&'a str>,
        content_json: &'a [u8],
    ) -> Self {
        static NONE: BTreeMap<String, i64> = BTreeMap::new();
        Self {
            room_id,
            kind,
            sender,
            state_key,
            member_count: 0,
            sender_power_level: 0,
            notification_levels: &NONE,
            content_json,
            content: OnceCell::new(),
            body: OnceCell::new(),
        }
    }

    fn content(&self) -> &Value {
        self.content
            .get_or_init(|| serde_json::from_slice(self.content_json).unwrap_or_default())
    }

    /// `content.body` in small letters.
    fn body(&self) -> Option<&str> {
        let find = || Some(self.content().get("body")?.as_str()?.to_lowercase());
        self.body.get_or_init(find).as_deref()
    }

    fn property(&self, path: &Path) -> Option<Property<'_>> {
        match path {
            Path::Type => Some(Property::Text(self.kind)),
            Path::Sender => Some(Property::Text(self.sender)),
            Path::RoomId => Some(Property::Text(self.room_id)),
            Path::StateKey => self.state_key.map(Property::Text),
            Path::Content(names) => {
                let mut value = self.content();
                for name in names {
                    value = value.as_object()?.get(name)?;
                }
                Some(Property::Json(value))
            }
            Path::Unknown => None,
        }
    }
}

enum Property<'a> {
    Text(&'a str),
    Json(&'a Value),
}

impl Property<'_> {
    fn is(&self, wanted: &Value) -> bool {
        match self {
            Property::Text(text) => wanted.as_str() == Some(text),
            Property::Json(value) => *value == wanted,
        }
    }
}

/// Whom the rules belong to, in the room of the event.
#[derive(Clone, Copy, Debug)]
pub struct UserFacts<'a> {
    /// The user id.
    pub user_id: &'a str,
    /// The display name in the room.
    pub display_name: Option<&'a str>,
}

/// Where a condition looks.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Path {
    Type,
    Sender,
    RoomId,
    StateKey,
    Content(Vec<String>),
    Unknown,
}

impl Path {
    fn new(key: &str) -> Self {
        let names = split_path(key);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        match names.as_slice() {
            ["type"] => Path::Type,
            ["sender"] => Path::Sender,
            ["room_id"] => Path::RoomId,
            ["state_key"] => Path::StateKey,
            ["content", rest @ ..] if !rest.is_empty() => {
                Path::Content(rest.iter().map(|name| (*name).to_owned()).collect())
            }
            _ => Path::Unknown,
        }
    }
}

/// Splits a path at its dots; `\.` is a dot and `\\` a backslash in a name, any other backslash is
/// itself (appendices, "Dot-separated property paths").
fn split_path(key: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut chars = key.chars().peekable();
    while let Some(c) = chars.next() {
        let c = match (c, chars.peek()) {
            ('.', _) => {
                names.push(String::new());
                continue;
            }
            ('\\', Some(&next @ ('.' | '\\'))) => {
                chars.next();
                next
            }
            (c, _) => c,
        };
        if let Some(name) = names.last_mut() {
            name.push(c);
        }
    }
    names
}

#[derive(Clone, Debug)]
enum Condition {
    Match(Path, Glob),
    BodyMatch(Glob),
    PropertyIs(Path, Value),
    PropertyContains(Path, Value),
    StateKeyIsMe,
    PropertyContainsMe(Path),
    ContainsDisplayName,
    MemberCount(std::ops::RangeInclusive<u64>),
    SenderMayNotify(String),
    Never,
}

impl Condition {
    fn new(condition: &Value) -> Self {
        Self::read(condition).unwrap_or(Self::Never)
    }

    /// None for conditions that are not known or not complete, which never hold.
    fn read(condition: &Value) -> Option<Self> {
        let text = |name| condition.get(name).and_then(Value::as_str);
        let value = || {
            let value = condition.get("value")?;
            (!value.is_array() && !value.is_object()).then(|| value.clone())
        };
        Some(match text("kind")? {
            "event_match" => match (text("key")?, text("pattern")?) {
                ("content.body", pattern) => Self::BodyMatch(Glob::new(pattern)),
                (key, pattern) => Self::Match(Path::new(key), Glob::new(pattern)),
            },
            "event_property_is" => Self::PropertyIs(Path::new(text("key")?), value()?),
            "event_property_contains" => Self::PropertyContains(Path::new(text("key")?), value()?),
            "contains_display_name" => Self::ContainsDisplayName,
            "room_member_count" => Self::MemberCount(member_counts(text("is")?)?),
            "sender_notification_permission" => Self::SenderMayNotify(text("key")?.to_owned()),
            _ => Self::Never,
        })
    }

    fn holds(&self, event: &EventFacts<'_>, me: &UserFacts<'_>) -> bool {
        match self {
            Self::Match(path, glob) => match event.property(path) {
                Some(Property::Text(text)) => glob.matches(text),
                Some(Property::Json(Value::String(text))) => glob.matches(text),
                _ => false,
            },
            Self::BodyMatch(glob) => event.body().is_some_and(|body| glob.matches_words(body)),
            Self::PropertyIs(path, wanted) => event
                .property(path)
                .is_some_and(|property| property.is(wanted)),
            Self::PropertyContains(path, wanted) => match event.property(path) {
                Some(Property::Json(Value::Array(values))) => values.contains(wanted),
                _ => false,
            },
            Self::StateKeyIsMe => event
                .state_key
                .is_some_and(|key| key.eq_ignore_ascii_case(me.user_id)),
            Self::PropertyContainsMe(path) => match event.property(path) {
                Some(Property::Json(Value::Array(values))) => {
                    values.iter().any(|value| value == me.user_id)
                }
                _ => false,
            },
            Self::ContainsDisplayName => match (me.display_name, event.body()) {
                (Some(name), Some(body)) if !name.is_empty() => {
                    Glob::literal(name).matches_words(body)
                }
                _ => false,
            },
            Self::MemberCount(range) => range.contains(&event.member_count),
            Self::SenderMayNotify(key) => {
                let levels = event.notification_levels;
                let needed = levels.get(key).unwrap_or(&DEFAULT_NOTIFICATION_LEVEL);
                event.sender_power_level >= *needed
            }
            Self::Never => false,
        }
    }
}

/// Reads the `is` of `room_member_count`.
fn member_counts(is: &str) -> Option<std::ops::RangeInclusive<u64>> {
    let at = is.find(|c: char| c.is_ascii_digit())?;
    let (operator, number) = is.split_at(at);
    let number: u64 = number.parse().ok()?;
    // An empty range where there is no such number.
    #[allow(clippy::reversed_empty_ranges)]
    let none = 1..=0;
    Some(match operator {
        "" | "==" => number..=number,
        "<" => number.checked_sub(1).map_or(none, |last| 0..=last),
        "<=" => 0..=number,
        ">" => number.checked_add(1).map_or(none, |first| first..=u64::MAX),
        ">=" => number..=u64::MAX,
        _ => return None,
    })
}

#[derive(Clone, Debug)]
struct Compiled {
    conditions: Vec<Condition>,
    actions: Actions,
}

impl Compiled {
    fn holds(&self, event: &EventFacts<'_>, me: &UserFacts<'_>) -> bool {
        self.conditions
            .iter()
            .all(|condition| condition.holds(event, me))
    }
}

/// The enabled rules of a user, ready for use; cheap to clone.
#[derive(Clone, Debug)]
pub struct Ruleset(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    overrides: Vec<Compiled>,
    content: Vec<Compiled>,
    rooms: HashMap<String, Actions>,
    senders: HashMap<String, Actions>,
    underrides: Vec<Compiled>,
}

/// Stands in default rules for the user id of whoever they are used for.
const ME: &str = "@";

static DEFAULT: LazyLock<Ruleset> = LazyLock::new(|| compile_all(&UserRules::default()));

impl Ruleset {
    /// Compiles the rules of a user; the default ones are compiled once for all.
    pub fn new(rules: &UserRules) -> Self {
        if rules.are_default() {
            return DEFAULT.clone();
        }
        compile_all(rules)
    }
}

fn compile_all(rules: &UserRules) -> Ruleset {
    let enabled = |kind| {
        let rules = rules.of_kind(kind, ME).into_iter();
        rules.filter(|rule| rule.enabled)
    };
    let by_id = |kind| {
        enabled(kind)
            .map(|rule| (rule.rule_id, Actions::of(&rule.actions)))
            .collect()
    };
    Ruleset(Arc::new(Rules {
        overrides: enabled(Kind::Override).map(compile).collect(),
        content: enabled(Kind::Content).map(compile).collect(),
        rooms: by_id(Kind::Room),
        senders: by_id(Kind::Sender),
        underrides: enabled(Kind::Underride).map(compile).collect(),
    }))
}

fn compile(rule: Rule) -> Compiled {
    let mut conditions = Vec::new();
    for condition in rule.conditions.iter().flatten() {
        conditions.push(match Condition::new(condition) {
            Condition::Match(Path::StateKey, glob) if rule.default && glob.matches(ME) => {
                Condition::StateKeyIsMe
            }
            Condition::PropertyContains(path, value) if rule.default && value == ME => {
                Condition::PropertyContainsMe(path)
            }
            condition => condition,
        });
    }
    if let Some(pattern) = &rule.pattern {
        conditions.push(Condition::BodyMatch(Glob::new(pattern)));
    }
    Compiled {
        conditions,
        actions: Actions::of(&rule.actions),
    }
}

/// The actions of the first rule that matches; nothing for events of the user's own.
pub fn evaluate<'r>(rules: &'r Ruleset, event: &EventFacts<'_>, me: &UserFacts<'_>) -> &'r Actions {
    if event.sender == me.user_id {
        return &NOTHING;
    }
    let rules = &*rules.0;
    let first = |rules: &'r [Compiled]| {
        let rule = rules.iter().find(|rule| rule.holds(event, me));
        rule.map(|rule| &rule.actions)
    };
    first(&rules.overrides)
        .or_else(|| first(&rules.content))
        .or_else(|| rules.rooms.get(event.room_id))
        .or_else(|| rules.senders.get(event.sender))
        .or_else(|| first(&rules.underrides))
        .unwrap_or(&NOTHING)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::push::rules::NewRule;

    const FACTS: UserFacts<'static> = UserFacts {
        user_id: "@me:x",
        display_name: Some("Me (work)"),
    };

    struct Event {
        kind: &'static str,
        state_key: Option<&'static str>,
        content: Value,
        members: u64,
        power: i64,
    }

    impl Event {
        fn message(content: Value) -> Self {
            Self {
                kind: "m.room.message",
                state_key: None,
                content,
                members: 3,
                power: 0,
            }
        }

        fn outcome(&self, rules: &UserRules) -> Actions {
            let json = self.content.to_string();
            let facts = EventFacts {
                member_count: self.members,
                sender_power_level: self.power,
                ..EventFacts::new("!r:x", self.kind, "@you:x", self.state_key, json.as_bytes())
            };
            let rules = Ruleset::new(rules);
            evaluate(&rules, &facts, &FACTS).clone()
        }

        /// What the default rules make of it: n(otify), h(ighlight), sound.
        fn told(&self) -> String {
            let actions = self.outcome(&UserRules::default());
            let mut told = String::new();
            told.push_str(if actions.notify { "n" } else { "" });
            told.push_str(if actions.highlight { "h" } else { "" });
            if let Some(sound) = actions.sound {
                told.push(' ');
                told.push_str(&sound);
            }
            told
        }
    }

    #[test]
    fn the_default_rules_tell_what_the_specification_says() {
        let text = || json!({"msgtype": "m.text", "body": "hi"});
        let with = |name: &str, value: Value| {
            let mut content = text();
            content[name] = value;
            Event::message(content)
        };
        let event = |kind, state_key, content| Event {
            kind,
            state_key,
            ..Event::message(content)
        };
        let cases = [
            (Event::message(text()), "n"),
            (
                Event {
                    members: 2,
                    ..Event::message(text())
                },
                "n default",
            ),
            (with("msgtype", json!("m.notice")), ""),
            (
                with("m.mentions", json!({"user_ids": ["@me:x"]})),
                "nh default",
            ),
            (with("m.mentions", json!({"user_ids": ["@other:x"]})), "n"),
            (with("m.mentions", json!({"room": true})), "n"),
            (
                Event {
                    power: 50,
                    ..with("m.mentions", json!({"room": true}))
                },
                "nh",
            ),
            (with("m.relates_to", json!({"rel_type": "m.replace"})), ""),
            (event("m.room.encrypted", None, json!({})), "n"),
            (
                Event {
                    members: 2,
                    ..event("m.room.encrypted", None, json!({}))
                },
                "n default",
            ),
            (event("m.reaction", None, json!({})), ""),
            (event("m.call.invite", None, json!({})), "n ring"),
            (
                event(
                    "m.room.member",
                    Some("@me:x"),
                    json!({"membership": "invite"}),
                ),
                "n default",
            ),
            (
                event(
                    "m.room.member",
                    Some("@you:x"),
                    json!({"membership": "join"}),
                ),
                "",
            ),
            (event("m.room.tombstone", Some(""), json!({})), "nh"),
            (event("m.room.tombstone", None, json!({})), ""),
            (event("m.room.server_acl", Some(""), json!({})), ""),
            (event("m.room.topic", Some(""), json!({})), ""),
        ];
        for (event, told) in cases {
            assert_eq!(event.told(), told, "{} {}", event.kind, event.content);
        }
    }

    fn own(kind: Kind, id: &str, new: NewRule) -> UserRules {
        let mut rules = UserRules::default();
        rules.put(kind, id, new).unwrap();
        rules
    }

    #[test]
    fn a_user_who_changed_something_is_still_meant_by_the_default_rules() {
        let mut rules = UserRules::default();
        rules
            .set_enabled(Kind::Underride, ".m.rule.message", false)
            .unwrap();
        let mention = |user: &str| {
            let content = json!({"body": "hi", "m.mentions": {"user_ids": [user]}});
            Event::message(content).outcome(&rules).highlight
        };
        assert!(mention("@me:x") && !mention("@other:x") && !mention("@"));
    }

    #[test]
    fn own_rules_win_over_defaults_in_the_order_of_kinds() {
        let silent = || NewRule::default();
        let message = Event::message(json!({"body": "time for tea"}));
        assert!(!message.outcome(&own(Kind::Room, "!r:x", silent())).notify);
        assert!(
            message
                .outcome(&own(Kind::Room, "!other:x", silent()))
                .notify
        );
        assert!(
            !message
                .outcome(&own(Kind::Sender, "@you:x", silent()))
                .notify
        );
        let mut rules = own(Kind::Room, "!r:x", silent());
        let tea = NewRule {
            actions: vec![json!("notify"), json!({"set_tweak": "highlight"})],
            pattern: Some("TEA".to_owned()),
            ..NewRule::default()
        };
        rules.put(Kind::Content, "tea", tea).unwrap();
        assert!(message.outcome(&rules).highlight);
        rules.set_enabled(Kind::Content, "tea", false).unwrap();
        assert!(!message.outcome(&rules).notify);
        rules
            .set_enabled(Kind::Override, ".m.rule.master", true)
            .unwrap();
        rules.set_enabled(Kind::Content, "tea", true).unwrap();
        assert!(!message.outcome(&rules).notify);
    }

    fn holds(condition: Value, event: &Event) -> bool {
        let new = NewRule {
            actions: vec![json!({"set_tweak": "sound", "value": "it"})],
            conditions: Some(vec![condition]),
            ..NewRule::default()
        };
        event
            .outcome(&own(Kind::Override, "rule", new))
            .sound
            .as_deref()
            == Some("it")
    }

    #[test]
    fn conditions_hold_as_the_specification_says() {
        let event = Event::message(json!({
            "body": "Hello me (WORK), how are you", "topic": "Lunch plans", "n": 1, "nothing": null,
            "m.dotted": {"x\\y": "z"}, "list": ["a", 2, {"deep": true}, null],
        }));
        let is = |key: &str, value: Value| {
            holds(
                json!({"kind": "event_property_is", "key": key, "value": value}),
                &event,
            )
        };
        let contains = |key: &str, value: Value| {
            let condition = json!({"kind": "event_property_contains", "key": key, "value": value});
            holds(condition, &event)
        };
        let matches = |key: &str, pattern: &str| {
            holds(
                json!({"kind": "event_match", "key": key, "pattern": pattern}),
                &event,
            )
        };
        assert!(is("content.n", json!(1)) && !is("content.n", json!("1")));
        assert!(is("content.nothing", json!(null)) && !is("content.absent", json!(null)));
        assert!(is("content.m\\.dotted.x\\\\y", json!("z")));
        assert!(is("sender", json!("@you:x")) && !is("content.list", json!(["a"])));
        assert!(contains("content.list", json!("a")) && contains("content.list", json!(null)));
        assert!(!contains("content.list", json!({"deep": true})));
        assert!(!contains("content.topic", json!("Lunch")));
        assert!(matches("content.topic", "lunc?*") && !matches("content.topic", "lunch"));
        assert!(matches("content.body", "hello") && !matches("content.body", "hell"));
        assert!(!matches("content.n", "*") && matches("room_id", "!R:x"));
        assert!(holds(json!({"kind": "contains_display_name"}), &event));
        for (is, expected) in [
            ("3", true),
            ("==3", true),
            ("<3", false),
            (">2", true),
            ("<=3", true),
            (">=4", false),
            ("<0", false),
            ("=3", false),
            ("", false),
            ("3x", false),
        ] {
            let condition = json!({"kind": "room_member_count", "is": is});
            assert_eq!(holds(condition, &event), expected, "{is}");
        }
        assert!(!holds(json!({"kind": "org.example.unknown"}), &event));
    }

    #[test]
    fn own_events_never_notify() {
        let facts = EventFacts::new("!r:x", "m.room.message", "@me:x", None, b"{}");
        let rules = Ruleset::new(&UserRules::default());
        assert_eq!(evaluate(&rules, &facts, &FACTS), &Actions::default());
    }
}
