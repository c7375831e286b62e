//! Where the answer to a request goes while it is made.

use super::Line;

/// Takes what the operator is to read. Each answer says whether somebody still reads: work that changes nothing may
/// end when nobody does.
#[derive(Clone, Copy)]
pub struct Output<'a> {
    tell: &'a dyn Fn(Line) -> bool,
}

impl<'a> Output<'a> {
    /// What is said goes to `tell`, which answers whether somebody still reads.
    pub fn new(tell: &'a dyn Fn(Line) -> bool) -> Self {
        Output { tell }
    }

    /// A line of the answer.
    pub fn print(self, text: String) -> bool {
        (self.tell)(Line::Text(text))
    }

    /// How far the work has come, of how much.
    pub fn progress(self, done: u64, total: u64) -> bool {
        (self.tell)(Line::Progress(done, total))
    }
}
