//! Push rules of clients, tried on events of others: nothing panics, what is stored reads back, and what
//! clients are told is JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use users::push::rules::{Kind, NewRule, UserRules};
use users::push::{EventFacts, Ruleset, UserFacts, evaluate};

fuzz_target!(|data: &[u8]| {
    let (rule, content) = data.split_at(data.iter().position(|byte| *byte == 0).unwrap_or(0));
    let content = content.get(1..).unwrap_or_default();
    let text = String::from_utf8_lossy(content);
    let rule: Value = serde_json::from_slice(rule).unwrap_or_default();
    let list = |name: &str| rule.get(name).and_then(Value::as_array).cloned();
    let mut rules = UserRules::default();
    for kind in Kind::ALL {
        let new = NewRule {
            actions: list("actions").unwrap_or_default(),
            conditions: list("conditions"),
            pattern: rule
                .get("pattern")
                .and_then(Value::as_str)
                .map(str::to_owned),
            ..NewRule::default()
        };
        // What may not be is refused.
        let _refused = rules.put(kind, "!rule:example.org", new);
    }
    let told = rules.to_account_data("@me:example.org");
    serde_json::from_slice::<Value>(&told).expect("clients get JSON");
    let stored = serde_json::to_vec(&rules).expect("it can be stored");
    let again: UserRules = serde_json::from_slice(&stored).expect("and read");
    assert_eq!(again, rules);
    let event = EventFacts::new(
        "!rule:example.org",
        "m.room.message",
        "@you:example.org",
        None,
        content,
    );
    let me = UserFacts {
        user_id: "@me:example.org",
        display_name: Some(&text),
    };
    let _actions = evaluate(&Ruleset::new(&rules), &event, &me);
});
