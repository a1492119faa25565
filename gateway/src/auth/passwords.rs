//! Password hashing with argon2id, with a bound on how many hashes run and wait.
//!
//! A hash takes 19 MiB and some 20 ms of a core, so as many run at once as there are cores, on the blocking pool. A short
//! queue waits, and further calls are refused as busy. Logins from unknown clients have a queue and a share of the cores of
//! their own: however many come, logins from known clients do not wait behind them.
//!
//! The hash is that of the password's normal form, in which it is the same from every keyboard and system. Earlier releases
//! hashed what was typed: that is tried too where the two differ, and replaced when it was right.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Argon2, Params};
use shared::domain::normal_password;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Longest accepted password, in characters.
pub const MAX_LENGTH: usize = 128;

/// Hashes of each queue that may wait for a core.
const QUEUE: usize = 32;

/// How long one may wait.
const QUEUE_TIME: Duration = Duration::from_secs(1);

/// Why a password was not hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// All cores are hashing and the queue is full.
    #[error("too many passwords are being hashed")]
    Busy,
    /// The hash function failed.
    #[error("hashing failed")]
    Failed,
}

/// What a login attempt proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The password is right.
    Right,
    /// The password is right, and its hash should be replaced by one with today's parameters.
    RightButWeak,
    /// The password is wrong.
    Wrong,
}

/// The queue that a hash waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashQueue {
    /// For logins from a known client.
    KnownClient,
    /// For registrations and for logins from an unknown client.
    UnknownClient,
}

/// Hashes and verifies passwords. Clones share the bounds.
#[derive(Clone)]
pub struct Passwords {
    cores: Arc<Semaphore>,
    /// Half of the cores, for all unknown clients together.
    unknown_cores: Arc<Semaphore>,
    known_queue: Arc<Semaphore>,
    unknown_queue: Arc<Semaphore>,
    /// Verified when the user is unknown, so that the answer takes the same time.
    dummy: Arc<str>,
}

impl Passwords {
    /// A hasher for this machine's cores.
    pub fn new() -> Result<Self, HashError> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            cores: Arc::new(Semaphore::new(cores)),
            unknown_cores: Arc::new(Semaphore::new((cores / 2).max(1))),
            known_queue: Arc::new(Semaphore::new(cores + QUEUE)),
            unknown_queue: Arc::new(Semaphore::new(cores + QUEUE)),
            dummy: hash_now("nobody has this password")?.into(),
        })
    }

    /// The hash of `password` in PHC string format.
    pub async fn hash(&self, password: String, queue: HashQueue) -> Result<String, HashError> {
        self.on_a_core(queue, move || hash_now(&normal_password(&password))).await?
    }

    /// Compares `password` with `hash`; without a hash the answer is wrong after the same time.
    pub async fn verify(&self, password: String, hash: Option<String>, queue: HashQueue) -> Result<Verdict, HashError> {
        let dummy = Arc::clone(&self.dummy);
        self.on_a_core(queue, move || {
            let verdict = verify_either(&password, hash.as_deref().unwrap_or(&dummy));
            if hash.is_some() { verdict } else { Verdict::Wrong }
        })
        .await
    }

    async fn on_a_core<T: Send + 'static>(
        &self,
        queue: HashQueue,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HashError> {
        let waiting = match queue {
            HashQueue::KnownClient => &self.known_queue,
            HashQueue::UnknownClient => &self.unknown_queue,
        };
        let _permit = waiting.try_acquire().map_err(|_| HashError::Busy)?;
        let core = timeout(QUEUE_TIME, self.core(queue)).await.map_err(|_| HashError::Busy)?;
        // The core is released when the work is done, even if the caller has gone away meanwhile.
        let done = spawn_blocking(move || {
            let _core = core;
            work()
        });
        done.await.map_err(|_| HashError::Failed)
    }

    /// A core; an unknown client gets a part of its share before it waits for one, so that at most as many of them are in front
    /// of a known client.
    async fn core(&self, queue: HashQueue) -> (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>) {
        // The semaphores are never closed.
        let of_queue = match queue {
            HashQueue::KnownClient => None,
            HashQueue::UnknownClient => Arc::clone(&self.unknown_cores).acquire_owned().await.ok(),
        };
        (of_queue, Arc::clone(&self.cores).acquire_owned().await.ok())
    }
}

fn hash_now(password: &str) -> Result<String, HashError> {
    let hash = Argon2::default().hash_password(password.as_bytes()).map_err(|_| HashError::Failed)?;
    Ok(hash.to_string())
}

/// Compares the normal form of `password`, and what was typed if that is something else.
fn verify_either(password: &str, hash: &str) -> Verdict {
    let normal = normal_password(password);
    match verify_now(&normal, hash) {
        Verdict::Wrong if normal != password => match verify_now(password, hash) {
            Verdict::Wrong => Verdict::Wrong,
            // The new hash will be that of the normal form.
            Verdict::Right | Verdict::RightButWeak => Verdict::RightButWeak,
        },
        verdict => verdict,
    }
}

fn verify_now(password: &str, hash: &str) -> Verdict {
    let Ok(parsed) = PasswordHash::new(hash) else {
        return Verdict::Wrong;
    };
    if Argon2::default().verify_password(password.as_bytes(), &parsed).is_err() {
        return Verdict::Wrong;
    }
    let strong = Params::try_from(&parsed).is_ok_and(|used| {
        used.m_cost() >= Params::DEFAULT_M_COST
            && used.t_cost() >= Params::DEFAULT_T_COST
            && used.p_cost() >= Params::DEFAULT_P_COST
    });
    if strong { Verdict::Right } else { Verdict::RightButWeak }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_right() {
        let passwords = Passwords::new().unwrap();
        let hash = passwords.hash("test1".to_owned(), HashQueue::KnownClient).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let verify = |password: &str, hash: Option<&str>| {
            passwords.verify(password.to_owned(), hash.map(str::to_owned), HashQueue::KnownClient)
        };
        assert_eq!(verify("test1", Some(&hash)).await, Ok(Verdict::Right));
        assert_eq!(verify("test2", Some(&hash)).await, Ok(Verdict::Wrong));
        assert_eq!(verify("nobody has this password", None).await, Ok(Verdict::Wrong));
        assert_eq!(verify("test1", Some("garbage")).await, Ok(Verdict::Wrong));
    }

    #[tokio::test]
    async fn a_hash_of_older_parameters_is_renewed() {
        let weak =
            Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, Params::new(8, 1, 1, None).unwrap());
        let hash = weak.hash_password(b"test1").unwrap().to_string();
        assert_eq!(verify_now("test1", &hash), Verdict::RightButWeak);
    }

    #[tokio::test]
    async fn composed_decomposed_and_earlier_forms_are_right() {
        let (composed, decomposed) = ("p\u{E4}ssword 1", "pa\u{308}ssword\u{A0}1");
        let passwords = Passwords::new().unwrap();
        let new = passwords.hash(decomposed.to_owned(), HashQueue::KnownClient).await.unwrap();
        let old = hash_now(decomposed).unwrap();
        let verify = |password: &str, hash: &str| {
            passwords.verify(password.to_owned(), Some(hash.to_owned()), HashQueue::KnownClient)
        };
        assert_eq!(verify(composed, &new).await, Ok(Verdict::Right));
        assert_eq!(verify(decomposed, &new).await, Ok(Verdict::Right));
        assert_eq!(verify(decomposed, &old).await, Ok(Verdict::RightButWeak));
        assert_eq!(verify(composed, &old).await, Ok(Verdict::Wrong));
    }

    #[tokio::test]
    async fn a_full_unknown_queue_leaves_the_known_queue_open() {
        let passwords = Passwords::new().unwrap();
        let count = u32::try_from(passwords.unknown_queue.available_permits()).unwrap();
        let _waiting = passwords.unknown_queue.try_acquire_many(count).unwrap();
        let hash = |queue| passwords.hash("test1".to_owned(), queue);
        assert_eq!(hash(HashQueue::UnknownClient).await, Err(HashError::Busy));
        assert!(hash(HashQueue::KnownClient).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_clients_leave_cores_to_known_ones() {
        let passwords = Passwords::new().unwrap();
        let cores = passwords.cores.available_permits();
        let unknown = passwords.core(HashQueue::UnknownClient).await;
        let mut taken = vec![unknown];
        while passwords.unknown_cores.available_permits() > 0 {
            taken.push(passwords.core(HashQueue::UnknownClient).await);
        }
        assert_eq!(passwords.cores.available_permits(), cores - (cores / 2).max(1));
        assert!(
            tokio::time::timeout(Duration::from_secs(50), passwords.core(HashQueue::UnknownClient))
                .await
                .is_err()
        );
    }
}
