//! How long a token lives, in all the ways that people write it (design 4).

/// Seconds, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lifespan(std::num::NonZeroU32);
