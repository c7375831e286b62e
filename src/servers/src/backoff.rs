//! How long a server that does not answer is left alone: twice as long after each failure, spread by chance so that
//! those that failed together do not come back together. One that is given up is still tried once a day.

/// The rest after the first failure.
const FIRST_MS: u64 = 1_000;
/// The longest rest.
const LONGEST_MS: u64 = 60 * 60 * 1_000;

/// A server that fails for so long is given up, in milliseconds.
const GIVEN_UP_AFTER_MS: u64 = 30 * DAY_MS;

/// It was tried so often at least: that this server was away, or its clock leapt, is no failure of the other.
const GIVEN_UP_AFTER_TRIES: u32 = 100;

/// The rest of a server that is given up.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// Whether a server that has failed for `failing_ms` and so many `failures` in a row is given up: what can't be made up
/// for later is not kept for it.
pub fn is_given_up(failing_ms: u64, failures: u32) -> bool {
    failing_ms >= GIVEN_UP_AFTER_MS && failures >= GIVEN_UP_AFTER_TRIES
}

/// The rest of a server that has failed for `failing_ms` and so many `failures` in a row, in milliseconds.
pub fn next_rest_ms(failing_ms: u64, failures: u32, random: u32) -> u64 {
    match is_given_up(failing_ms, failures) {
        true => spread(DAY_MS, random),
        false => rest_ms(failures, random),
    }
}

/// The rest after so many `failures` in a row, in milliseconds: between three quarters and five quarters of the
/// nominal time, by `random`.
pub fn rest_ms(failures: u32, random: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(32);
    spread(
        FIRST_MS.saturating_mul(1 << doublings).min(LONGEST_MS),
        random,
    )
}

fn spread(nominal: u64, random: u32) -> u64 {
    let spread = nominal / 2;
    nominal - spread / 2 + ((spread * u64::from(random)) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_to_an_hour_and_are_spread_around_their_nominal_time() {
        assert_eq!(rest_ms(1, 0), 750);
        assert_eq!(rest_ms(1, 1 << 31), 1_000);
        assert!(rest_ms(1, u32::MAX) <= 1_250);
        assert_eq!(rest_ms(2, 1 << 31), 2_000);
        assert_eq!(rest_ms(5, 1 << 31), 16_000);
        for failures in [13, 40, u32::MAX] {
            assert_eq!(rest_ms(failures, 1 << 31), LONGEST_MS);
            assert!(rest_ms(failures, 0) >= LONGEST_MS * 3 / 4);
            assert!(rest_ms(failures, u32::MAX) <= LONGEST_MS * 5 / 4);
        }
    }

    #[test]
    fn a_server_that_is_given_up_is_tried_once_a_day() {
        let half = 1 << 31;
        assert_eq!(next_rest_ms(GIVEN_UP_AFTER_MS - 1, 900, half), LONGEST_MS);
        assert_eq!(next_rest_ms(GIVEN_UP_AFTER_MS, 99, half), LONGEST_MS);
        assert_eq!(next_rest_ms(GIVEN_UP_AFTER_MS, 100, half), DAY_MS);
    }
}
