//! Short runs in every room version: whatever the network and the members do, all servers come to what the
//! reference says. `cargo run --release -p simulator -- --seeds 10000` runs more and longer ones.

use std::thread;

use event::RoomVersion;
use simulator::{Plan, Statistics, run};

/// Runs some seeds in every room version, side by side.
fn run_all(
    seeds: std::ops::Range<u64>,
    plan: impl Fn(u64, RoomVersion) -> Plan + Sync,
) -> Statistics {
    let mut sum = Statistics::default();
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for versions in RoomVersion::ALL.chunks(6) {
            let (plan, seeds) = (&plan, seeds.clone());
            threads.push(scope.spawn(move || {
                let mut sum = Statistics::default();
                for version in versions {
                    for seed in seeds.clone() {
                        match run(&plan(seed, *version)) {
                            Ok(statistics) => sum += statistics,
                            Err(failure) => panic!(
                                "{}\nseed {seed} of room version {version} at step {}: {}",
                                failure.text, failure.step, failure.trouble
                            ),
                        }
                    }
                }
                sum
            }));
        }
        for thread in threads {
            sum += thread.join().expect("all servers agree");
        }
    });
    sum
}

#[test]
fn servers_agree_in_every_room_version_on_a_bad_network_with_a_forger_among_them() {
    let sum = run_all(0..4, |seed, version| Plan {
        steps: 900,
        version: Some(version),
        ..Plan::new(seed)
    });
    // Guards against runs in which nothing happens.
    let happened = [
        sum.acts > 3000,
        sum.refused > 1000,
        sum.forged > 400,
        sum.dropped > 20,
        sum.rejected > 500,
        sum.soft_failed > 500,
        sum.gaps > 20,
        sum.paged_back > 20,
        sum.entered > 100,
        sum.crashes > 50,
        sum.resolutions > 2000,
        sum.states_compared > 2000,
        sum.agreeing > 10,
    ];
    assert!(happened.iter().all(|enough| *enough), "{happened:?} {sum}");
}

#[test]
fn few_servers_agree_in_every_state_of_theirs() {
    run_all(100..102, |seed, version| Plan {
        steps: 300,
        servers: 1 + (seed % 3) as usize,
        version: Some(version),
        thorough: true,
        ..Plan::new(seed)
    });
}

#[test]
fn a_seed_makes_the_same_run_every_time() {
    let plan = Plan {
        steps: 500,
        ..Plan::new(12)
    };
    let runs = [run(&plan), run(&plan)].map(|run| run.expect("all servers agree"));
    assert_eq!(runs[0], runs[1]);
}
