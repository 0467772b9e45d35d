//! Which tokens were found genuine lately. A proxy shows the same token with
//! each request of its bearer, and checking an RSA signature takes longer than
//! all else that is done for one.
//!
//! Only that a signature is good is remembered, under the SHA-256 of the whole
//! token: all that may change, such as the time, is looked at again. What was
//! found bad is not remembered, so nobody without tokens can push others out.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};

/// So many tokens are remembered at least; at most twice as many.
const ENOUGH: usize = 4096;

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// That of a token in compact form.
    pub fn of(token: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token).as_ref());
        Self(bytes)
    }
}

/// The tokens that one ring of keys found genuine.
#[derive(Default)]
pub struct Genuine(Mutex<Remembered>);

/// Tokens are forgotten by the set, those first that nobody shows any more.
#[derive(Default)]
struct Remembered {
    new: HashSet<Fingerprint>,
    old: HashSet<Fingerprint>,
}

impl Genuine {
    /// Was this token found genuine lately; if so, it stays remembered.
    pub fn knows(&self, token: Fingerprint) -> bool {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.old.remove(&token) {
            remembered.add(token);
        }
        remembered.new.contains(&token)
    }

    /// This token is genuine.
    pub fn remember(&self, token: Fingerprint) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.add(token);
    }
}

impl fmt::Debug for Genuine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Genuine").finish_non_exhaustive()
    }
}

impl Remembered {
    fn add(&mut self, token: Fingerprint) {
        if self.new.len() >= ENOUGH {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(number: usize) -> Fingerprint {
        Fingerprint::of(&number.to_be_bytes())
    }

    #[test]
    fn a_token_is_known_once_it_was_remembered() {
        let genuine = Genuine::default();
        assert!(!genuine.knows(numbered(1)));
        genuine.remember(numbered(1));
        assert!(genuine.knows(numbered(1)));
        assert!(!genuine.knows(numbered(2)));
    }

    #[test]
    fn it_has_a_bound_within_which_what_is_shown_stays_known() {
        let genuine = Genuine::default();
        for number in 0..10 * ENOUGH {
            genuine.remember(numbered(number));
            assert!(number % 1000 != 0 || number == 0 || genuine.knows(numbered(number - 999)));
            let remembered = genuine.0.lock().unwrap();
            assert!(remembered.new.len() + remembered.old.len() <= 2 * ENOUGH);
        }
        assert!(!genuine.knows(numbered(0)));
        assert!(genuine.knows(numbered(9 * ENOUGH + 1)));
    }
}
