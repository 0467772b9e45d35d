/// The token in a header of HTTP.
pub mod bearer;
/// The claims of a token.
pub mod claims;
/// The compact form, read without any key.
pub mod compact;
/// Which tokens were found genuine lately.
mod genuine;
/// What is in a token, told to people and to programs.
pub mod inspection;
/// How long a token lives, in all the ways that people write it.
pub mod lifespan;
/// Times as people read them.
pub mod moment;
/// What Slurm would say to a token, as far as that shows without its key.
pub mod slurm;
/// Is a token genuine, valid, and for somebody who may have one.
pub mod verify;

/// The longest token, in bytes of its compact form.
pub const MAX_TOKEN: usize = 12 * 1024;
