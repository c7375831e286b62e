//! The authorisation rules on any event and any state: they answer, and the entries of the state that
//! `auth_types` selects are all that the answer depends on.
#![no_main]

use event::auth::{self, Membership, PowerLevels, PowerLevelsContent};
use event::{AuthEvent, Pdu, RoomVersion, canonical};
use libfuzzer_sys::fuzz_target;
use meyrin_fuzz::{Choices, Graph, seal};

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let version = choices.pick(&RoomVersion::ALL);
    let mut graph = Graph::with_beginning(version);
    let rules = graph.rules;
    // A few events more, whether they are allowed or not.
    for _ in 0..choices.below(5) {
        graph.grow(&mut choices);
    }
    let (event, prev) = graph.choose(&mut choices);
    let Some(Ok(pdu)) = seal::hashed(rules, &event) else {
        parse_contents(&mut choices, version);
        return;
    };
    let state: Vec<AuthEvent> = graph
        .state_after(&prev)
        .values()
        .map(|number| {
            let pdu = graph.nodes[*number].pdu.clone();
            match choices.one_in(32) {
                true => AuthEvent::rejected(rules, pdu),
                false => AuthEvent::new(rules, pdu),
            }
        })
        .collect();
    let verdict = auth::check(rules, &pdu, state.as_slice());
    let types = auth::auth_types_of(rules, &pdu);
    let selected: Vec<&AuthEvent> = state
        .iter()
        .filter(|event| {
            event.pdu().is_state("m.room.create", "")
                || types.iter().any(|(of, key)| event.pdu().is_state(of, key))
        })
        .collect();
    assert_eq!(auth::check(rules, &pdu, selected.as_slice()), verdict);
    if let Err(error) = &verdict {
        assert!(!error.to_string().is_empty() && !error.number().is_empty());
    }
    named(&graph, &pdu, &state);
    for event in &state {
        if let Some(create) = state.iter().find(|event| event.creators().is_some())
            && let Some(levels) = PowerLevels::of_events(rules, create, Some(event))
        {
            let _level = (
                levels.user(pdu.sender()),
                levels.to_send(pdu.event_type(), true),
            );
        }
    }
    parse_contents(&mut choices, version);
});

/// The rules about the list of auth events: they refuse what is named twice.
fn named(graph: &Graph, pdu: &Pdu, state: &[AuthEvent]) {
    let all: Vec<&AuthEvent> = state.iter().collect();
    let twice: Vec<&AuthEvent> = all.iter().chain(&all).copied().collect();
    let _verdict = auth::check_auth_events(graph.rules, pdu, &all);
    if !twice.is_empty() && pdu.event_type() != "m.room.create" {
        assert!(auth::check_auth_events(graph.rules, pdu, &twice).is_err());
    }
    let known: Vec<usize> = pdu
        .auth_events()
        .filter_map(|id| graph.number(id))
        .collect();
    let events: Vec<AuthEvent> = known
        .iter()
        .map(|number| AuthEvent::new(graph.rules, graph.nodes[*number].pdu.clone()))
        .collect();
    let events: Vec<&AuthEvent> = events.iter().collect();
    let _verdict = auth::check_auth_events(graph.rules, pdu, &events);
    let _verdict = auth::check(graph.rules, pdu, events.as_slice());
}

/// Contents as raw JSON.
fn parse_contents(choices: &mut Choices<'_>, version: RoomVersion) {
    let rules = version.rules();
    let Ok(text) = std::str::from_utf8(choices.rest()) else {
        return;
    };
    let Ok(content) = canonical::from_text(text, rules.numbers) else {
        return;
    };
    if event::json::is_object(&content) {
        let levels = PowerLevelsContent::parse(rules, &content);
        let found = levels.as_ref().map(|levels| levels.users().count());
        assert!(found.is_ok() || levels.is_err());
        let _membership = Membership::of_content(&content);
        let _version = RoomVersion::of_create(&content);
        let _creators = auth::Creators::of(rules, "@a:here", &content);
    }
}
