//! What this kernel says of itself in its own file, for whoever is about to start it: see [`bootproto::image::About`].

use bootproto::image::{KernelNotes, Versions};

use crate::machine::BUILD;

/// The handover versions that this kernel reads and writes.
pub const VERSIONS: Versions = Versions { oldest: handover::OLDEST_READ, newest: handover::VERSION };

// SAFETY: the linker script gives this section a place among the read-only data, where nothing else makes use of it.
#[used]
#[unsafe(link_section = ".note.holdover")]
static NOTES: KernelNotes = KernelNotes::new(VERSIONS, BUILD);
