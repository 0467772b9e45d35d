//! The integration tests: one file a behaviour.
