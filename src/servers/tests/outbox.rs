//! No event is lost and none overtakes another of its room, whatever fails and wherever the process ends.

use std::collections::BTreeMap;

use names::RoomSn;
use proptest::prelude::*;
use servers::outbox::{self, Destination, Outgoing, Progress};
use servers::{News, Queue};
use store::memory::Memory;
use store::{Options, Position, Read, Store, SyncMode};

const SERVER: &str = "there";

fn open(memory: &Memory) -> Store {
    let options = Options {
        sync: SyncMode::Never,
        schema: 1,
        migrations: &[],
        reserve_bytes: 0,
        on_fatal: Box::new(|_| {}),
    };
    Store::open(Box::new(memory.clone()), options).unwrap()
}

/// A sender with one destination: the parts of the shell that decide what is kept, without its tasks.
struct Sender {
    memory: Memory,
    store: Store,
    queue: Queue,
    dispatched: Position,
    has_row: bool,
    /// What the destination got, in the order in which it came.
    received: Vec<(RoomSn, u64)>,
    next: BTreeMap<RoomSn, u64>,
}

impl Sender {
    fn new() -> Self {
        let memory = Memory::default();
        let store = open(&memory);
        Self {
            memory,
            store,
            queue: Queue::default(),
            dispatched: Position::ZERO,
            has_row: false,
            received: Vec::new(),
            next: BTreeMap::new(),
        }
    }

    /// Makes so many events of a room in one change.
    fn make(&mut self, room: u32, count: usize) {
        let mut txn = self.store.begin();
        for _ in 0..count {
            let place = self.next.entry(RoomSn(room)).or_default();
            *place += 1;
            outbox::note_event(&mut txn, RoomSn(room), *place, &Outgoing::default());
        }
        self.store.commit(txn).unwrap();
    }

    fn read(
        &self,
        since: Position,
        upto: Position,
        limit: usize,
    ) -> (Vec<(Position, News)>, Position) {
        let view = self.store.view();
        let mut found: Vec<(Position, News)> = Vec::new();
        for event in outbox::events_between(&view, since, upto) {
            let event = event.unwrap();
            let is_full = found.len() >= limit;
            if let Some((last, _)) = found.last()
                && is_full
                && *last != event.position
            {
                return (found.clone(), *last);
            }
            let (room, place) = (event.room, event.place);
            found.push((event.position, News::Event { room, place }));
        }
        (found, upto)
    }

    fn dispatch(&mut self) {
        let upto = self.store.view().position();
        let (found, _) = self.read(self.dispatched, upto, usize::MAX);
        for (position, news) in found {
            self.queue.push(position, news);
        }
        self.dispatched = upto;
    }

    fn send(&mut self, limit: usize, arrives: bool, is_answered: bool) {
        while let Some(since) = self.queue.wants_log() {
            let (found, upto) = self.read(since, self.dispatched, limit);
            self.queue.read(found, upto, upto == self.dispatched);
        }
        let items = self.queue.take(limit, limit).to_vec();
        if arrives {
            for (_, news) in &items {
                let News::Event { room, place } = news else {
                    panic!("only events are made here");
                };
                self.received.push((*room, *place));
            }
        }
        if arrives && is_answered {
            self.queue.sent();
            if self.has_row && self.queue.is_done() {
                self.has_row = false;
                let mut txn = self.store.begin();
                outbox::forget_destination(&mut txn, SERVER);
                self.store.commit(txn).unwrap();
            }
        } else if !items.is_empty() {
            self.queue.failed(self.dispatched);
            let row = Destination {
                cursor: self.queue.cursor(self.dispatched),
                ..Destination::default()
            };
            let mut txn = self.store.begin();
            outbox::put_destination(&mut txn, SERVER, &row);
            self.store.commit(txn).unwrap();
            self.has_row = true;
        }
    }

    fn settle(&mut self) {
        let cursor = self.queue.cursor(self.dispatched);
        let settled = match self.has_row {
            true => self.dispatched,
            false => cursor.min(self.dispatched),
        };
        let mut txn = self.store.begin();
        let forgotten = settled.min(cursor);
        outbox::forget_events(&mut txn, Position::ZERO, forgotten, 7).unwrap();
        outbox::put_progress(&mut txn, &Progress { settled, forgotten });
        self.store.commit(txn).unwrap();
    }

    fn crash(&mut self) {
        self.store = open(&self.memory);
        let view = self.store.view();
        self.dispatched = outbox::progress(&view).unwrap().settled;
        let row = outbox::destination(&view, SERVER).unwrap();
        self.has_row = row.is_some();
        self.queue = match row {
            Some(row) => Queue::from_log(row.cursor),
            None => Queue::default(),
        };
    }
}

#[derive(Clone, Debug)]
enum Step {
    Make(u32, usize),
    Dispatch,
    Send(usize, bool, bool),
    Settle,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u32..4, 1usize..60).prop_map(|(room, count)| Step::Make(room, count)),
        3 => Just(Step::Dispatch),
        4 => (1usize..60, any::<bool>(), any::<bool>())
            .prop_map(|(limit, arrives, answered)| Step::Send(limit, arrives, answered)),
        2 => Just(Step::Settle),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_event_arrives_and_the_first_of_each_in_the_order_of_its_room(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut sender = Sender::new();
        for step in steps {
            match step {
                Step::Make(room, count) => sender.make(room, count),
                Step::Dispatch => sender.dispatch(),
                Step::Send(limit, arrives, answered) => sender.send(limit, arrives, answered),
                Step::Settle => sender.settle(),
                Step::Crash => sender.crash(),
            }
        }
        sender.crash();
        sender.dispatch();
        while !sender.queue.is_done() {
            sender.send(50, true, true);
        }
        for (room, last) in &sender.next {
            let mut known = 0;
            for (of, place) in &sender.received {
                if of == room {
                    prop_assert!(*place <= known + 1, "{place} came before {}", known + 1);
                    known = known.max(*place);
                }
            }
            prop_assert_eq!(known, *last);
        }
        let row = outbox::destination(&sender.store.view(), SERVER).unwrap();
        prop_assert_eq!(row, None);
    }
}

#[test]
fn a_queue_keeps_a_bounded_number_of_references() {
    let mut queue = Queue::default();
    for position in 1..10_000 {
        let (room, place) = (RoomSn(1), position);
        queue.push(Position(position), News::Event { room, place });
    }
    assert_eq!(queue.behind(), Some(Position(200)));
    assert_eq!(queue.take(500, 500).len(), 200);
    queue.sent();
    assert_eq!(queue.cursor(Position(9_999)), Position(200));
    assert!(!queue.is_done());
}

#[test]
fn messages_to_devices_wait_for_their_server_until_they_are_deleted() {
    let memory = Memory::default();
    let store = open(&memory);
    let mut txn = store.begin();
    outbox::note_to_device(&mut txn, "b", 0, vec![b"{1}".to_vec(), b"{2}".to_vec()]);
    outbox::note_to_device(&mut txn, "a", 2, vec![b"{3}".to_vec()]);
    store.commit(txn).unwrap();
    let store = open(&memory);
    let view = store.view();
    assert_eq!(outbox::servers_with_to_device(&view).unwrap(), ["a", "b"]);
    let waiting = outbox::to_device(&view, "b", 10, 1 << 20).unwrap();
    let contents: Vec<_> = waiting.iter().map(|message| &message.content[..]).collect();
    assert_eq!(contents, [b"{1}", b"{2}"]);
    assert_eq!(outbox::to_device(&view, "b", 10, 3).unwrap().len(), 1);
    assert_eq!(outbox::to_device(&view, "b", 1, 1 << 20).unwrap().len(), 1);
    let mut txn = store.begin();
    outbox::delete_to_device(&mut txn, "b", &[waiting[0].key]);
    store.commit(txn).unwrap();
    assert_eq!(outbox::count_to_device(&store.view(), "b", 10).unwrap(), 1);
    assert_eq!(
        outbox::to_device(&store.view(), "b", 10, 1).unwrap()[0],
        waiting[1]
    );
}
