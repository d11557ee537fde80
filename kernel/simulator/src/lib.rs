//! How well an eviction policy does: the real page cache and the real cleancache, over traces, beside what is known to be good (one LRU
//! list over all memory) and what is possible (Belady's optimum).
//!
//! Runs on the host only. May touch: `cache`, `cleancache`, `frames`.
#![forbid(unsafe_code)]

pub mod machine;
pub mod options;
pub mod reference;
pub mod report;
pub mod rng;
pub mod table;
pub mod trace;
