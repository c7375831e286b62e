//! What push rules cost: compiling those of a user, and holding an event against them.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use users::push::rules::UserRules;
use users::push::{EventFacts, Ruleset, UserFacts, evaluate};

const CONTENT: &[u8] = br#"{"msgtype":"m.text","body":"Shall we meet at the usual place at nine?",
    "m.mentions":{"user_ids":["@somebody:example.org"]}}"#;

const ME: UserFacts<'static> = UserFacts {
    user_id: "@me:example.org",
    display_name: Some("Me"),
};

fn facts() -> EventFacts<'static> {
    let mut facts = EventFacts::new(
        "!room:example.org",
        "m.room.message",
        "@you:example.org",
        None,
        CONTENT,
    );
    facts.member_count = 12;
    facts
}

fn push(criterion: &mut Criterion) {
    let rules = UserRules::default();
    let ruleset = Ruleset::new(&rules);
    criterion.bench_function("push: take the default rules into use", |bench| {
        bench.iter(|| Ruleset::new(black_box(&rules)));
    });
    criterion.bench_function("push: one message for one user", |bench| {
        bench.iter(|| evaluate(&ruleset, &facts(), &ME).notify);
    });
    let shared = facts();
    criterion.bench_function("push: the same message for each further user", |bench| {
        bench.iter(|| evaluate(black_box(&ruleset), &shared, &ME).notify);
    });
}

criterion_group!(benches, push);
criterion_main!(benches);
