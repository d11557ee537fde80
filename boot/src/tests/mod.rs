//! The decisions of a boot, on the host. They are unit tests because the package's binary builds for no host.

mod handoff;
mod layout;
mod plan;
mod scratch;
