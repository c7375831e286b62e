//! `simulator`: runs seeds, says what happened, and shows the first failure.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use clap::Parser;
use event::RoomVersion;
use simulator::{Failure, Plan, Statistics, run, shrink};

/// Many homeservers in one process, on a bad network.
#[derive(Parser)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds, one after another.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Steps of each run.
    #[arg(long, default_value_t = 2000)]
    steps: u64,
    /// Servers.
    #[arg(long, default_value_t = 5)]
    servers: usize,
    /// The room version; otherwise each seed has one of all.
    #[arg(long)]
    version: Option<String>,
    /// Compare all states on all servers.
    #[arg(long)]
    thorough: bool,
    /// Run all seeds and name all that fail, instead of ending with the first.
    #[arg(long)]
    all: bool,
    /// Runs at a time; as many as there are processors if not given.
    #[arg(long)]
    threads: Option<usize>,
    /// Where the graph of a failure is written for Graphviz.
    #[arg(long)]
    graph: Option<std::path::PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let version = match arguments.version.as_deref().map(str::parse::<RoomVersion>) {
        None => None,
        Some(Ok(version)) => Some(version),
        Some(Err(error)) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if arguments.servers == 0 {
        eprintln!("there must be a server");
        return ExitCode::from(2);
    }
    let plan_of = |seed| Plan {
        steps: arguments.steps,
        servers: arguments.servers,
        version,
        thorough: arguments.thorough,
        ..Plan::new(seed)
    };
    let threads = arguments
        .threads
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let (statistics, failure) = run_all(&plan_of, &arguments, threads);
    println!("{statistics}");
    match failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            show(shrink(failure), arguments.graph.as_deref());
            ExitCode::FAILURE
        }
    }
}

/// Runs seeds on several threads until they are through or one fails.
fn run_all(
    plan_of: &(impl Fn(u64) -> Plan + Sync),
    arguments: &Arguments,
    threads: usize,
) -> (Statistics, Option<Box<Failure>>) {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let result: Mutex<(Statistics, Option<Box<Failure>>)> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= arguments.seeds {
                        return;
                    }
                    let ended = run(&plan_of(arguments.seed.wrapping_add(number)));
                    let mut result = result
                        .lock()
                        .unwrap_or_else(|poisoned| poisoned.into_inner());
                    match ended {
                        Ok(statistics) => result.0 += statistics,
                        Err(failure) => {
                            if arguments.all {
                                println!("{}", summary(&failure));
                            }
                            stop.store(!arguments.all, Ordering::Relaxed);
                            // The first seed, whichever thread was faster.
                            let earlier = result
                                .1
                                .as_ref()
                                .is_none_or(|of| failure.plan.seed < of.plan.seed);
                            if earlier {
                                result.1 = Some(failure);
                            }
                        }
                    }
                }
            });
        }
    });
    result
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn summary(failure: &Failure) -> String {
    let (plan, step, trouble) = (&failure.plan, failure.step, &failure.trouble);
    let version = plan.version();
    format!(
        "seed {} fails at step {step} (room version {version}): {trouble}",
        plan.seed
    )
}

fn show(failure: Box<Failure>, graph: Option<&std::path::Path>) {
    let plan = &failure.plan;
    println!("{}", failure.text);
    println!("{}", summary(&failure));
    println!(
        "again: cargo run --release -p simulator -- --seed {} --steps {} --servers {} --version {}",
        plan.seed,
        plan.steps,
        plan.servers,
        plan.version()
    );
    if let Some(path) = graph
        && let Err(error) = std::fs::write(path, &failure.graphviz)
    {
        eprintln!("{}: {error}", path.display());
    }
}
