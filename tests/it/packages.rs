//! What has been built is installed, packed, upgraded and removed, and the
//! administrator's files stay. Debian's and RPM's own tools do it, each on a
//! private host of its own.

mod confinement;
mod debian;
mod guide;
mod install;
mod rpm;
mod tree;
