//! Filters of clients: whatever the bytes, nothing panics, and one that shows everything hides nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use users::filters::{Filter, RoomEventFilter};

fuzz_target!(|data: &[u8]| {
    let (filter, event) = data.split_at(data.iter().position(|byte| *byte == 0).unwrap_or(0));
    let event = String::from_utf8_lossy(event);
    let (kind, sender) = event.split_once(' ').unwrap_or((&event, "@a:b"));
    if let Ok(filter) = Filter::parse(filter) {
        let shown = filter.room.timeline.shows(kind, sender, || true);
        assert!(shown || !filter.room.timeline.shows_everything());
        let shown = filter.presence.shows(kind, Some(sender));
        assert!(shown || !filter.presence.shows_everything());
        let _known = filter.room.shows_room(sender);
    }
    if let Ok(filter) = RoomEventFilter::parse(filter) {
        let shown = filter.shows(kind, sender, || false);
        assert!(shown || !filter.shows_everything());
    }
});
