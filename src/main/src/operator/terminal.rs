//! What the operator sees of an answer: lines on standard output, and a bar on standard error where that is a terminal.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};

use super::Line;

/// Columns of the whole bar.
const BAR_WIDTH: u64 = 40;

/// Prints an answer.
pub struct Terminal {
    /// Standard error is a terminal.
    shows_bars: bool,
    /// The bar that stands on the last line: how many columns of it are filled, and the percentage.
    bar: Cell<Option<(u64, u64)>>,
}

impl Default for Terminal {
    fn default() -> Self {
        Terminal {
            shows_bars: io::stderr().is_terminal(),
            bar: Cell::new(None),
        }
    }
}

impl Terminal {
    /// Shows a line of an answer; whether somebody still reads.
    pub fn tell(&self, line: Line) -> bool {
        match line {
            Line::Text(text) => {
                self.wipe();
                writeln!(io::stdout().lock(), "{text}").is_ok()
            }
            Line::Progress(done, total) => {
                self.show(done, total);
                true
            }
            Line::Done | Line::Failed(_) => true,
        }
    }

    fn show(&self, done: u64, total: u64) {
        let done = done.min(total);
        let part =
            |of: u64| u64::try_from(u128::from(done) * u128::from(of) / u128::from(total.max(1)));
        let bar = (part(BAR_WIDTH).unwrap_or(0), part(100).unwrap_or(0));
        if !self.shows_bars || self.bar.get() == Some(bar) {
            return;
        }
        self.bar.set(Some(bar));
        let (filled, percent) = bar;
        let (filled, empty) = (
            "#".repeat(filled as usize),
            " ".repeat((BAR_WIDTH - filled) as usize),
        );
        // A bar that can't be drawn is no reason to stop.
        let _ = write!(io::stderr().lock(), "\r[{filled}{empty}] {percent:>3} %");
    }

    /// Takes the bar away.
    fn wipe(&self) {
        if self.bar.take().is_some() {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.wipe();
    }
}
