//! How long a server that does not answer is left alone: twice as long after each failure, spread by chance so that
//! those that failed together do not come back together.

/// The rest after the first failure.
const FIRST_MS: u64 = 1_000;
/// The longest rest.
const LONGEST_MS: u64 = 60 * 60 * 1_000;

/// The rest after so many `failures` in a row, in milliseconds: between three quarters and five quarters of the
/// nominal time, by `random`.
pub fn rest_ms(failures: u32, random: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(32);
    let nominal = FIRST_MS.saturating_mul(1 << doublings).min(LONGEST_MS);
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
}
