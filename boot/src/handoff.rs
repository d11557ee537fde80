//! What the VMM or the previous kernel says: the PVH start info and all that it points to.
//!
//! Everything is copied before it is looked at, and before the boot stage writes anything outside its own image, so it
//! does not matter where it lay.

use bootproto::memmap::{MAX_RANGES, MapError, MemoryMap, MemoryRange};
use bootproto::parcel::{COMMAND_LINE_MAX, PARCEL_MAX, Parcel, ParcelError};
use bootproto::pvh::{MemmapEntry, Module, START_INFO_MAGIC, START_INFO_VERSION, StartInfo};
use core::fmt;
use zerocopy::{FromBytes, IntoBytes};

/// The most modules that are looked at.
pub const MAX_MODULES: u32 = 8;

/// Physical memory, as far as the boot stage can read it.
pub trait PhysicalMemory {
    /// Fills `out` from `address` on. `None`, if part of that is out of reach.
    fn read(&self, address: u64, out: &mut [u8]) -> Option<()>;
}

/// Room for what is copied.
pub struct Buffers {
    command_line: [u8; COMMAND_LINE_MAX + 1],
    module: [u8; PARCEL_MAX],
}

impl Buffers {
    /// Empty buffers.
    pub const fn new() -> Buffers {
        Buffers { command_line: [0; COMMAND_LINE_MAX + 1], module: [0; PARCEL_MAX] }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

/// Why nothing can be booted from a start info.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoffError {
    /// The start info does not begin as one does.
    BadMagic(u32),
    /// The start info is of a version without a memory map.
    OldVersion(u32),
    /// It counts more of something than we take.
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many it counts.
        count: u32,
        /// How many we take.
        limit: u32,
    },
    /// Something it points to is where we cannot read.
    OutOfReach {
        /// What that is.
        what: &'static str,
        /// Where it is said to be.
        address: u64,
    },
    /// The command line has no end within [`COMMAND_LINE_MAX`] bytes.
    CommandLineTooLong,
    /// The memory map makes no sense.
    Map(MapError),
}

impl fmt::Display for HandoffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandoffError::BadMagic(magic) => write!(f, "start info has magic {magic:#x}"),
            HandoffError::OldVersion(version) => write!(f, "start info of version {version} has no memory map"),
            HandoffError::TooMany { what, count, limit } => {
                write!(f, "start info counts {count} {what}, {limit} at most")
            }
            HandoffError::OutOfReach { what, address } => write!(f, "{what} at {address:#x} is out of reach"),
            HandoffError::CommandLineTooLong => {
                write!(f, "command line is longer than {COMMAND_LINE_MAX} bytes")
            }
            HandoffError::Map(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for HandoffError {}

/// Why a module was not taken for a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleFault {
    /// The module's number.
    pub index: u32,
    /// What is wrong with it; `None` if it cannot be read at all.
    pub error: Option<ParcelError>,
}

impl fmt::Display for ModuleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "module {}: ", self.index)?;
        match &self.error {
            Some(error) => error.fmt(f),
            None => f.write_str("out of reach"),
        }
    }
}

/// What was said.
#[derive(Debug)]
pub struct Handoff<'a> {
    /// The memory of the machine.
    pub map: MemoryMap,
    /// The command line, without its NUL; empty if there is none.
    pub command_line: &'a [u8],
    /// Where the ACPI tables start, if anywhere.
    pub rsdp: Option<u64>,
    /// The parcel of a kernel before us. If no module is one, why the last module is not; nothing without modules.
    pub parcel: Result<Parcel<'a>, Option<ModuleFault>>,
}

impl<'a> Handoff<'a> {
    /// Reads the start info at `address` and what it points to.
    pub fn read(
        memory: &impl PhysicalMemory,
        address: u64,
        buffers: &'a mut Buffers,
    ) -> Result<Handoff<'a>, HandoffError> {
        let start_info: StartInfo = read_value(memory, "start info", address)?;
        if start_info.magic.get() != START_INFO_MAGIC {
            return Err(HandoffError::BadMagic(start_info.magic.get()));
        }
        if start_info.version.get() < START_INFO_VERSION {
            return Err(HandoffError::OldVersion(start_info.version.get()));
        }
        let Buffers { command_line, module } = buffers;
        Ok(Handoff {
            map: read_map(memory, &start_info)?,
            command_line: read_command_line(memory, &start_info, command_line)?,
            rsdp: Some(start_info.rsdp_paddr.get()).filter(|&address| address != 0),
            parcel: read_parcel(memory, &start_info, module)?,
        })
    }
}

fn read_value<T: FromBytes + IntoBytes>(
    memory: &impl PhysicalMemory,
    what: &'static str,
    address: u64,
) -> Result<T, HandoffError> {
    let mut value = T::new_zeroed();
    memory.read(address, value.as_mut_bytes()).ok_or(HandoffError::OutOfReach { what, address })?;
    Ok(value)
}

/// The address of the `index`th `T` from `base` on. One that wraps is no address of anything, so it saturates.
fn element<T>(base: u64, index: u32) -> u64 {
    base.saturating_add(u64::from(index).saturating_mul(size_of::<T>() as u64))
}

fn read_map(memory: &impl PhysicalMemory, start_info: &StartInfo) -> Result<MemoryMap, HandoffError> {
    let count = start_info.memmap_entries.get();
    let limit = MAX_RANGES as u32;
    if count > limit {
        return Err(HandoffError::TooMany { what: "memory ranges", count, limit });
    }
    let mut ranges = [MemoryRange::EMPTY; MAX_RANGES];
    for (index, range) in (0..count).zip(&mut ranges) {
        let address = element::<MemmapEntry>(start_info.memmap_paddr.get(), index);
        let entry: MemmapEntry = read_value(memory, "memory map", address)?;
        *range = entry.range().ok_or(HandoffError::Map(MapError::BeyondAddressSpace(index as usize)))?;
    }
    MemoryMap::normalise(ranges.into_iter().take(count as usize)).map_err(HandoffError::Map)
}

fn read_command_line<'a>(
    memory: &impl PhysicalMemory,
    start_info: &StartInfo,
    buffer: &'a mut [u8; COMMAND_LINE_MAX + 1],
) -> Result<&'a [u8], HandoffError> {
    /// Small pieces: the line may end just below the end of what can be read.
    const PIECE: usize = 64;

    let address = start_info.cmdline_paddr.get();
    if address == 0 {
        return Ok(&[]);
    }
    let what = "command line";
    let mut end = None;
    for (index, piece) in buffer.chunks_mut(PIECE).enumerate() {
        let at = index * PIECE;
        memory.read(address.saturating_add(at as u64), piece).ok_or(HandoffError::OutOfReach { what, address })?;
        if let Some(nul) = piece.iter().position(|&byte| byte == 0) {
            end = Some(at + nul);
            break;
        }
    }
    let end = end.ok_or(HandoffError::CommandLineTooLong)?;
    Ok(buffer.get(..end).unwrap_or_default())
}

fn read_parcel<'a>(
    memory: &impl PhysicalMemory,
    start_info: &StartInfo,
    buffer: &'a mut [u8; PARCEL_MAX],
) -> Result<Result<Parcel<'a>, Option<ModuleFault>>, HandoffError> {
    let count = start_info.nr_modules.get();
    if count > MAX_MODULES {
        return Err(HandoffError::TooMany { what: "modules", count, limit: MAX_MODULES });
    }
    let mut fault = None;
    let mut found = None;
    for index in 0..count {
        let address = element::<Module>(start_info.modlist_paddr.get(), index);
        let module: Module = read_value(memory, "module list", address)?;
        match copy_parcel(memory, &module, buffer) {
            Ok(len) => {
                found = Some(len);
                break;
            }
            Err(error) => fault = Some(ModuleFault { index, error }),
        }
    }
    let parcel = found.and_then(|len| buffer.get(..len)).and_then(|bytes| Parcel::decode(bytes).ok());
    Ok(parcel.ok_or(fault))
}

/// Copies a module that is a parcel and returns its length.
fn copy_parcel(
    memory: &impl PhysicalMemory,
    module: &Module,
    buffer: &mut [u8; PARCEL_MAX],
) -> Result<usize, Option<ParcelError>> {
    let len = usize::try_from(module.size.get()).unwrap_or(usize::MAX);
    let bytes = buffer.get_mut(..len).ok_or(Some(ParcelError::Oversized { len }))?;
    memory.read(module.paddr.get(), bytes).ok_or(None)?;
    Parcel::decode(bytes).map(|_| len).map_err(Some)
}
