//! The table of interrupt controllers (ACPI 6.4, 5.2.12): each processor has one of its own, so they are the processors.

use crate::tables::{self, AcpiError, HEADER, Physical, Signature};

/// The most processors that are used.
pub const MOST: usize = 64;

const MADT: Signature = Signature(*b"APIC");
/// Where the local APICs lie on every machine of this kind, and the lengths of the records that are read.
const LOCAL_APIC: u64 = 0xfee0_0000;
const RECORDS: u32 = HEADER + 8;
const PROCESSOR: (u8, u8) = (0, 8);
const ADDRESS: (u8, u8) = (5, 12);
const WIDE_PROCESSOR: (u8, u8) = (9, 16);
/// The processor is there; without it, it may be plugged in some day.
const ENABLED: u32 = 1;
/// This id means all processors, and those above do not fit the eight bits of a local APIC as it starts.
const BEYOND: u32 = 0xff;

/// The processors of a machine, by the ids of their local APICs, in the order of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processors {
    ids: [u8; MOST],
    len: usize,
    /// Processors that cannot be used, since they are too many or their id is too large.
    pub left_out: usize,
}

impl Processors {
    /// No processors.
    pub const NONE: Self = Self { ids: [0; MOST], len: 0, left_out: 0 };

    /// The ids, each once.
    pub fn ids(&self) -> &[u8] {
        self.ids.get(..self.len).unwrap_or_default()
    }

    fn add(&mut self, id: u32) {
        let id = u8::try_from(id).ok().filter(|&id| u32::from(id) < BEYOND);
        if id.is_some_and(|id| self.ids().contains(&id)) {
            return;
        }
        match (id, self.ids.get_mut(self.len)) {
            (Some(id), Some(slot)) => {
                *slot = id;
                self.len += 1;
            }
            _ => self.left_out += 1,
        }
    }
}

/// The processors that the table lists which the root pointer at `root` leads to.
///
/// # Errors
/// [`AcpiError`], when the tables cannot be read to their end, or the local APICs lie where nobody expects them.
pub fn processors(memory: &dyn Physical, root: u64) -> Result<Processors, AcpiError> {
    let table = tables::find(memory, root, MADT)?;
    let mut local_apic = u64::from(u32::from_le_bytes(table.bytes(HEADER)?));
    let mut processors = Processors::NONE;
    let mut offset = RECORDS;
    while offset < table.len {
        let [kind, len] = table.bytes(offset)?;
        let broken = AcpiError::Record { table: MADT, offset };
        let shortest =
            [PROCESSOR, ADDRESS, WIDE_PROCESSOR].iter().find(|known| known.0 == kind).map_or(2, |known| known.1);
        // A record has a length of two at least, so the loop comes to an end.
        let end = offset + u32::from(len);
        if len < shortest || end > table.len {
            return Err(broken);
        }
        let (id, flags) = match kind {
            kind if kind == PROCESSOR.0 => {
                let [id] = table.bytes(offset + 3)?;
                (u32::from(id), u32::from_le_bytes(table.bytes(offset + 4)?))
            }
            kind if kind == WIDE_PROCESSOR.0 => {
                (u32::from_le_bytes(table.bytes(offset + 4)?), u32::from_le_bytes(table.bytes(offset + 8)?))
            }
            kind if kind == ADDRESS.0 => {
                local_apic = u64::from_le_bytes(table.bytes(offset + 4)?);
                (0, 0)
            }
            _ => (0, 0),
        };
        if flags & ENABLED != 0 {
            processors.add(id);
        }
        offset = end;
    }
    if local_apic == LOCAL_APIC { Ok(processors) } else { Err(AcpiError::LocalApic(local_apic)) }
}
