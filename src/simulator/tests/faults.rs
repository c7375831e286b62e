//! The simulator finds what is wrong: with each fault that is made on purpose some run of a few fails, with what
//! tells of it.

use simulator::{Fault, Plan, run};

/// How many runs a fault may take to be found.
const SEEDS: u64 = 30;

/// What the runs of a fault say that fail, in the order of the seeds, up to the first that fits.
fn found(fault: Fault, expected: &[&str]) {
    let mut said = Vec::new();
    for seed in 0..SEEDS {
        let plan = Plan {
            steps: 800,
            fault: Some(fault),
            ..Plan::new(seed)
        };
        if let Err(failure) = run(&plan) {
            if expected.iter().any(|text| failure.trouble.contains(text)) {
                return;
            }
            said.push(failure.trouble);
        }
    }
    panic!("{fault:?} is not found by {expected:?}, but: {said:#?}");
}

#[test]
fn an_event_that_a_server_does_not_take_in_is_missed() {
    found(Fault::LosesAnEvent, &["never gets what", "do not have"]);
}

#[test]
fn an_event_that_was_sent_before_it_was_safe_is_missed_after_a_crash() {
    found(Fault::SendsBeforeSync, &["in a crash, though it was safe"]);
}

#[test]
fn a_disk_that_forgets_is_caught() {
    found(
        Fault::ForgetsWhatIsSafe,
        &["in a crash, though it was safe"],
    );
}

#[test]
fn a_false_state_that_is_believed_shows_in_verdicts_or_states() {
    found(
        Fault::AnswersAFalseState,
        &["but it is", "is not as it must be"],
    );
}

#[test]
fn events_that_the_state_before_them_does_not_allow_have_to_be_rejected() {
    found(Fault::OracleSkipsStateBefore, &["Rejected", "rejected"]);
}

#[test]
fn states_that_are_not_resolved_are_wrong() {
    found(
        Fault::OracleTakesTheNewest,
        &["but it is", "is not as it must be"],
    );
}
