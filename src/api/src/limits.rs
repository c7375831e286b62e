//! Rate limits: who asks too often, by class of request.
//!
//! Owns one bucket per class and key (a user, an account, an address, a server). A bucket is one instant, the
//! time at which it would be full again (the generic cell rate algorithm), so that a bucket at rest holds
//! no information and needs no clean-up.
//!
//! Who is over the rate is refused, or made to wait until it is not ([`Limiter::patiently`]).
//!
//! Invariants: so many wait at most. Memory is fixed at construction; when it runs short, the bucket that is nearest to full
//! again is forgotten, so that a flood of new keys can't free one that is being held back. Keys are hashed with a secret of the process. Nothing is
//! counted while limits are switched off.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use config::{Limits, Rate};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::error::ApiError;

/// What is limited; each class has a rate of its own in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Any request, by user, or by address without one.
    Request,
    /// Events sent, by user.
    Message,
    /// Logins, by address.
    LoginAddress,
    /// Failed logins, by account.
    LoginAccount,
    /// Registrations, by address.
    Registration,
    /// Rooms made, by user.
    CreateRoom,
    /// Rooms joined or knocked on, by user.
    Join,
    /// Invites, by the user who invites.
    Invite,
    /// Uploads and downloads, by user, or by address without one.
    Media,
    /// Searches, by user.
    Search,
    /// Federation requests, by server.
    Federation,
}

impl Class {
    fn rate(self, limits: &Limits) -> Rate {
        match self {
            Self::Request => limits.request,
            Self::Message => limits.message,
            Self::LoginAddress => limits.login_address,
            Self::LoginAccount => limits.login_account,
            Self::Registration => limits.registration,
            Self::CreateRoom => limits.create_room,
            Self::Join => limits.join,
            Self::Invite => limits.invite,
            Self::Media => limits.media,
            Self::Search => limits.search,
            Self::Federation => limits.federation,
        }
    }
}

/// Whose bucket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// A name: of a user, an account or a server.
    Name(&'a str),
    /// An address; of IPv6 the /64, which is what one customer gets. None (a unix socket without a
    /// forwarded address) is never limited.
    Address(Option<IpAddr>),
}

/// How long a request waits for its bucket before it is refused.
const PATIENCE: Duration = Duration::from_secs(1);

/// Requests that wait for their buckets at once; more are refused without waiting.
const MOST_WAITING: usize = 1_000;

/// Buckets that share a lock; a key always falls into the same group.
const WAYS: usize = 8;

/// 65,536 buckets in about 1.1 MB.
const GROUPS: usize = 8192;

/// One bucket: whose it is (0: nobody's), and when it will be full again, in nanoseconds of the limiter's own time.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    owner: u64,
    full_at_ns: u64,
}

type Group = Mutex<[Bucket; WAYS]>;

/// The rate limits of a server; cheap to share by reference or in an `Arc`.
#[derive(Debug)]
pub struct Limiter {
    limits: ArcSwap<Limits>,
    groups: Box<[Group]>,
    waiting: Semaphore,
    hasher: RandomState,
    began: Instant,
}

impl Limiter {
    /// A limiter with all buckets full.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits: ArcSwap::from_pointee(limits),
            groups: (0..GROUPS).map(|_| Mutex::default()).collect(),
            waiting: Semaphore::new(MOST_WAITING),
            hasher: RandomState::new(),
            began: Instant::now(),
        }
    }

    /// Takes new limits into use; buckets keep what they owe.
    pub fn reload(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
    }

    /// Takes one from the bucket, or refuses with `M_LIMIT_EXCEEDED` and the time to wait.
    pub fn check(&self, class: Class, key: Key<'_>) -> Result<(), ApiError> {
        self.check_many(class, key, 1)
    }

    /// Takes `count` from the bucket at once, or nothing. More than a full bucket holds waits for a full one.
    pub fn check_many(&self, class: Class, key: Key<'_>, count: u32) -> Result<(), ApiError> {
        self.take(class, key, count, self.began.elapsed())
            .map_err(ApiError::limit_exceeded)
    }

    /// Refuses if the bucket is empty, and takes nothing: to be asked before the work of which only
    /// failures count (a login).
    pub fn peek(&self, class: Class, key: Key<'_>) -> Result<(), ApiError> {
        self.take(class, key, 0, self.began.elapsed())
            .map_err(ApiError::limit_exceeded)
    }

    /// As [`Limiter::check_many`], and with `count` 0 as [`Limiter::peek`]: but who would be refused waits until the bucket has
    /// enough, and is refused after a second, or at once where too many wait already: `M_LIMIT_EXCEEDED`. So whoever sends again at once what was refused makes no more work than
    /// others, and whoever was only quick notices nothing.
    pub async fn patiently(&self, class: Class, key: Key<'_>, count: u32) -> Result<(), ApiError> {
        let take = || self.take(class, key, count, self.began.elapsed());
        let Err(mut wait) = take() else {
            return Ok(());
        };
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(ApiError::limit_exceeded(wait));
        };
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ApiError::limit_exceeded(wait));
            }
            tokio::time::sleep(wait.min(left)).await;
            match take() {
                Ok(()) => return Ok(()),
                Err(more) => wait = more,
            }
        }
    }

    /// The time to wait is the error. `count` 0 asks for one and takes none.
    fn take(&self, class: Class, key: Key<'_>, count: u32, now: Duration) -> Result<(), Duration> {
        let limits = self.limits.load();
        if !limits.enabled {
            return Ok(());
        }
        let Some(owner) = self.owner(class, key) else {
            return Ok(());
        };
        let rate = class.rate(&limits);
        // What one costs and what a full bucket is worth, in the time they take to come back.
        let one_ns = (1e9 / rate.per_second).clamp(1.0, 1e17) as u64;
        let burst_ns = one_ns.saturating_mul(u64::from(rate.burst.max(1)));
        let cost_ns = one_ns.saturating_mul(u64::from(count.clamp(1, rate.burst.max(1))));
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);

        let index = (owner % GROUPS as u64) as usize;
        let Some(group) = self.groups.get(index) else {
            return Ok(());
        };
        let mut group = group.lock();
        let (bucket, owed_until_ns) = find(&mut group, owner);
        let full_at_ns = owed_until_ns.max(now_ns).saturating_add(cost_ns);
        let over_ns = full_at_ns.saturating_sub(now_ns.saturating_add(burst_ns));
        if over_ns > 0 {
            return Err(Duration::from_nanos(over_ns));
        }
        if count > 0 {
            *bucket = Bucket { owner, full_at_ns };
        }
        Ok(())
    }

    fn owner(&self, class: Class, key: Key<'_>) -> Option<u64> {
        let hash = match key {
            Key::Name(name) => self.hasher.hash_one((class, name)),
            Key::Address(None) => return None,
            Key::Address(Some(address)) => {
                let network = match address.to_canonical() {
                    IpAddr::V4(address) => u128::from(address.to_bits()),
                    IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
                };
                self.hasher.hash_one((class, network))
            }
        };
        // 0 marks a bucket without an owner.
        Some(hash.max(1))
    }
}

/// The owner's bucket in its group and when it is full; without one, a full bucket in the place of
/// the one whose loss matters least.
fn find(group: &mut [Bucket; WAYS], owner: u64) -> (&mut Bucket, u64) {
    let mut least = 0;
    for index in 0..WAYS {
        if group[index].owner == owner {
            let full_at_ns = group[index].full_at_ns;
            return (&mut group[index], full_at_ns);
        }
        if group[index].full_at_ns < group[least].full_at_ns {
            least = index;
        }
    }
    (&mut group[least], 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrCode;

    fn limiter(per_second: f64, burst: u32) -> Limiter {
        Limiter::new(Limits {
            message: Rate::new(per_second, burst),
            ..Limits::default()
        })
    }

    fn at(limiter: &Limiter, name: &str, ms: u64) -> Result<(), Duration> {
        limiter.take(
            Class::Message,
            Key::Name(name),
            1,
            Duration::from_millis(ms),
        )
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds_and_the_wait_is_told_exactly() {
        let limiter = limiter(10.0, 3);
        for _ in 0..3 {
            assert_eq!(at(&limiter, "@a:b", 1_000), Ok(()));
        }
        assert_eq!(at(&limiter, "@a:b", 1_000), Err(Duration::from_millis(100)));
        assert_eq!(at(&limiter, "@a:b", 1_060), Err(Duration::from_millis(40)));
        assert_eq!(at(&limiter, "@a:b", 1_100), Ok(()));
        assert_eq!(at(&limiter, "@a:b", 1_100), Err(Duration::from_millis(100)));
    }

    #[test]
    fn users_and_classes_do_not_share_a_bucket() {
        let limiter = limiter(1.0, 1);
        assert!(limiter.check(Class::Message, Key::Name("@a:b")).is_ok());
        let refused = limiter
            .check(Class::Message, Key::Name("@a:b"))
            .expect_err("refused");
        assert_eq!(refused.code(), Some(ErrCode::LimitExceeded));
        assert!(limiter.check(Class::Message, Key::Name("@c:b")).is_ok());
        assert!(limiter.check(Class::Join, Key::Name("@a:b")).is_ok());
    }

    #[test]
    fn a_refused_request_costs_nothing_and_looking_takes_nothing() {
        let limiter = limiter(1.0, 2);
        let take = |count, ms| {
            limiter.take(
                Class::Message,
                Key::Name("@a:b"),
                count,
                Duration::from_millis(ms),
            )
        };
        assert_eq!(take(0, 0), Ok(()));
        assert_eq!(take(2, 0), Ok(()));
        assert_eq!(take(0, 0), Err(Duration::from_secs(1)));
        assert_eq!(take(2, 1_000), Err(Duration::from_secs(1)));
        assert_eq!(take(1, 1_000), Ok(()));
        assert_eq!(
            take(99, 3_000),
            Ok(()),
            "more than a full bucket waits for a full one"
        );
    }

    #[test]
    fn limits_switched_off_or_without_an_address_let_all_pass_and_can_be_reloaded() {
        let strict = Limits {
            registration: Rate::new(0.001, 1),
            ..Limits::default()
        };
        let limiter = Limiter::new(Limits {
            enabled: false,
            ..strict.clone()
        });
        let key = Key::Address(Some(IpAddr::from([192, 0, 2, 1])));
        assert!((0..10).all(|_| limiter.check(Class::Registration, key).is_ok()));
        limiter.reload(strict);
        assert!(limiter.check(Class::Registration, key).is_ok());
        assert!(limiter.check(Class::Registration, key).is_err());
        let unix = Key::Address(None);
        assert!((0..10).all(|_| limiter.check(Class::Registration, unix).is_ok()));
    }

    #[test]
    fn an_ipv6_customer_is_one_key_and_a_mapped_address_is_its_ipv4_one() {
        let limiter = limiter(0.001, 1);
        let check = |text: &str| {
            let address = text.parse().expect("an address");
            limiter
                .check(Class::Message, Key::Address(Some(address)))
                .is_ok()
        };
        assert!(check("2001:db8:1:2::1"));
        assert!(!check("2001:db8:1:2:ffff::9"));
        assert!(check("2001:db8:1:3::1"));
        assert!(check("192.0.2.1"));
        assert!(!check("::ffff:192.0.2.1"));
    }

    #[test]
    fn a_flood_of_new_keys_does_not_free_one_that_is_held_back() {
        let limiter = limiter(0.001, 5);
        for _ in 0..5 {
            assert_eq!(at(&limiter, "@spammer:b", 0), Ok(()));
        }
        for n in 0..(GROUPS * WAYS * 2) {
            let _ = at(&limiter, &format!("@{n}:b"), 0);
        }
        assert!(at(&limiter, "@spammer:b", 0).is_err());
    }
}
