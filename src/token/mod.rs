/// The claims of a token.
pub mod claims;
/// How long a token lives, in all the ways that people write it.
pub mod lifespan;

/// The longest token, in bytes of its compact form.
pub const MAX_TOKEN: usize = 12 * 1024;
