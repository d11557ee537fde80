//! The parcel: what one boot tells the next, beyond what PVH and `BootInfo` can say.
//!
//! The same bytes make two journeys. The old kernel gives a parcel to the next boot stage as a PVH module; the boot
//! stage checks it, brings it up to date and gives it to its kernel as `BootInfo`'s ramdisk. On a first boot the boot
//! stage makes one from nothing.
//!
//! Layout, little-endian: a header ([`Header`], with [`Growth`] behind it), then the command line, the previous build and
//! the notice, one after the other. The CRC-32C covers everything with its own field taken as zero, and the whole length is
//! in the header, so any flipped bit and any truncation are refused. `version` changes when an old reader would
//! misunderstand; a header that merely grew says so in `header_len`: an old reader skips the new fields, and a new reader
//! takes those that an old header lacks for zero.

use crate::Span;
use core::fmt;
use crc::{CRC_32_ISCSI, Crc};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The longest command line, in bytes.
pub const COMMAND_LINE_MAX: usize = 4096;
/// The longest name of a build, in bytes.
pub const BUILD_MAX: usize = 256;
/// The longest notice, in bytes.
pub const NOTICE_MAX: usize = 512;
/// No encoded parcel is longer than this: two pages.
pub const PARCEL_MAX: usize = 8192;

const MAGIC: [u8; 8] = *b"HOLDPRCL";
const VERSION: u16 = 1;
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// What crosses from one boot to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parcel<'a> {
    /// How many kexecs lie between the first boot and the kernel that reads this.
    pub generation: u32,
    /// The kernel's command line.
    pub command_line: &'a [u8],
    /// The area that holds nothing preserved, the same in every generation.
    pub scratch: Span,
    /// Where what is never written of the running bootable file lies, as loaded: a kexec without a file enters it again.
    pub boot_image: Span,
    /// Its physical 32-bit entry.
    pub boot_entry: u32,
    /// Where the handover's metadata starts, if anything was handed over.
    pub handover_root: Option<u64>,
    /// The time-stamp counter when the kexec began; 0 on a first boot.
    pub exec_tsc: u64,
    /// Ticks of that counter a second, as far as the kernel before knew; 0 on a first boot.
    pub tsc_hz: u64,
    /// The build that handed over; empty on a first boot.
    pub previous_build: &'a [u8],
    /// What else the log should say: why a handover was not taken, or what became of the kernel between. Mostly empty.
    pub notice: &'a [u8],
    /// How to start the kernel before again, should this one fail before it is up.
    pub way_back: Option<Jump>,
    /// Whether this kernel is the one before, started again because the one after it failed.
    pub came_back: bool,
}

/// A jump that a kernel has prepared: what its few instructions are given. All are physical addresses.
///
/// Whoever makes it has to reach those instructions: the page tables map memory at its own address, and in their upper half what
/// the kernel had there that made them. Another kernel has to put its own upper half there first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jump {
    /// The top page table.
    pub page_tables: u64,
    /// The page to make the moves from.
    pub code: u64,
    /// The list of moves.
    pub moves: u64,
    /// The page to go on in, below 4 GiB.
    pub code_copy: u64,
    /// The next boot stage's start info.
    pub start_info: u64,
    /// The next boot stage's entry.
    pub entry: u32,
}

/// Why a parcel could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The command line, the build or the notice is longer than its limit.
    TextTooLong {
        /// Which of them.
        field: &'static str,
        /// Its length.
        len: usize,
        /// The most it may have.
        max: usize,
    },
    /// The buffer is shorter than the parcel.
    BufferTooSmall {
        /// The length that the parcel needs.
        needed: usize,
        /// The length of the buffer.
        given: usize,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::TextTooLong { field, len, max } => {
                write!(f, "{field} has {len} bytes, {max} at most")
            }
            EncodeError::BufferTooSmall { needed, given } => {
                write!(f, "parcel needs {needed} bytes, the buffer has {given}")
            }
        }
    }
}

impl core::error::Error for EncodeError {}

/// Why bytes are not a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParcelError {
    /// Shorter than a header, or than its own length field says.
    Truncated {
        /// How many bytes there are.
        len: usize,
    },
    /// Longer than [`PARCEL_MAX`], or than its own length field says.
    Oversized {
        /// How many bytes there are.
        len: usize,
    },
    /// It does not begin as a parcel does.
    BadMagic,
    /// It was written by a build whose parcels this build does not understand.
    UnknownVersion(u16),
    /// The bytes are not those that were written.
    BadChecksum {
        /// The checksum that the parcel carries.
        stored: u32,
        /// The checksum of what is there.
        computed: u32,
    },
    /// The checksum is right and a field still makes no sense.
    BadField(&'static str),
}

impl fmt::Display for ParcelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParcelError::Truncated { len } => write!(f, "parcel truncated at {len} bytes"),
            ParcelError::Oversized { len } => write!(f, "parcel too long with {len} bytes"),
            ParcelError::BadMagic => write!(f, "not a parcel"),
            ParcelError::UnknownVersion(version) => {
                write!(f, "parcel version {version}, this build reads {VERSION}")
            }
            ParcelError::BadChecksum { stored, computed } => {
                write!(f, "parcel checksum is {computed:#010x}, should be {stored:#010x}")
            }
            ParcelError::BadField(field) => write!(f, "parcel has a bad {field}"),
        }
    }
}

impl core::error::Error for ParcelError {}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U16,
    header_len: U16,
    total_len: U32,
    checksum: U32,
    generation: U32,
    boot_entry: U32,
    has_root: U32,
    scratch_start: U64,
    scratch_len: U64,
    boot_image_start: U64,
    boot_image_len: U64,
    handover_root: U64,
    exec_tsc: U64,
    command_line_len: U32,
    previous_build_len: U32,
    notice_len: U32,
    reserved: U32,
}

/// What the header has grown by since.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Growth {
    has_way_back: U32,
    came_back: U32,
    entry: U32,
    reserved: U32,
    page_tables: U64,
    code: U64,
    moves: U64,
    code_copy: U64,
    start_info: U64,
    tsc_hz: U64,
}

impl Growth {
    fn new(way_back: Option<Jump>, came_back: bool, tsc_hz: u64) -> Growth {
        let jump = way_back.unwrap_or_default();
        Growth {
            has_way_back: u32::from(way_back.is_some()).into(),
            came_back: u32::from(came_back).into(),
            entry: jump.entry.into(),
            reserved: U32::ZERO,
            page_tables: jump.page_tables.into(),
            code: jump.code.into(),
            moves: jump.moves.into(),
            code_copy: jump.code_copy.into(),
            start_info: jump.start_info.into(),
            tsc_hz: tsc_hz.into(),
        }
    }

    fn way_back(&self) -> Result<Option<Jump>, ParcelError> {
        let jump = Jump {
            page_tables: self.page_tables.get(),
            code: self.code.get(),
            moves: self.moves.get(),
            code_copy: self.code_copy.get(),
            start_info: self.start_info.get(),
            entry: self.entry.get(),
        };
        flag("way back", self.has_way_back).map(|there| there.then_some(jump))
    }
}

/// What every header has.
const FIRST_LEN: usize = size_of::<Header>();
const HEADER_LEN: usize = FIRST_LEN + size_of::<Growth>();
const _: () = assert!(HEADER_LEN + COMMAND_LINE_MAX + BUILD_MAX + NOTICE_MAX <= PARCEL_MAX);

impl<'a> Parcel<'a> {
    /// How many bytes [`Parcel::encode`] writes.
    pub fn encoded_len(&self) -> usize {
        HEADER_LEN
            .saturating_add(self.command_line.len())
            .saturating_add(self.previous_build.len())
            .saturating_add(self.notice.len())
    }

    /// Writes the parcel to the start of `out` and returns its length, at most [`PARCEL_MAX`].
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let needed = self.encoded_len();
        let given = out.len();
        let header = Header {
            magic: MAGIC,
            version: VERSION.into(),
            header_len: (HEADER_LEN as u16).into(),
            total_len: (needed as u32).into(),
            checksum: U32::ZERO,
            generation: self.generation.into(),
            boot_entry: self.boot_entry.into(),
            has_root: u32::from(self.handover_root.is_some()).into(),
            scratch_start: self.scratch.start.into(),
            scratch_len: self.scratch.len.into(),
            boot_image_start: self.boot_image.start.into(),
            boot_image_len: self.boot_image.len.into(),
            handover_root: self.handover_root.unwrap_or(0).into(),
            exec_tsc: self.exec_tsc.into(),
            command_line_len: text_len("command line", self.command_line, COMMAND_LINE_MAX)?,
            previous_build_len: text_len("previous build", self.previous_build, BUILD_MAX)?,
            notice_len: text_len("notice", self.notice, NOTICE_MAX)?,
            reserved: U32::ZERO,
        };
        let too_small = EncodeError::BufferTooSmall { needed, given };
        let out = out.get_mut(..needed).ok_or(too_small)?;

        let mut rest = &mut *out;
        let growth = Growth::new(self.way_back, self.came_back, self.tsc_hz);
        for part in [header.as_bytes(), growth.as_bytes(), self.command_line, self.previous_build, self.notice] {
            let (place, behind) = rest.split_at_mut_checked(part.len()).ok_or(too_small)?;
            place.copy_from_slice(part);
            rest = behind;
        }
        let checksum = CRC32C.checksum(out);
        let (header, _) = Header::mut_from_prefix(out).map_err(|_| too_small)?;
        header.checksum = checksum.into();
        Ok(needed)
    }

    /// Reads a parcel that is exactly `bytes`.
    pub fn decode(bytes: &'a [u8]) -> Result<Parcel<'a>, ParcelError> {
        let len = bytes.len();
        let truncated = ParcelError::Truncated { len };
        let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| truncated)?;
        if header.magic != MAGIC {
            return Err(ParcelError::BadMagic);
        }
        if header.version.get() != VERSION {
            return Err(ParcelError::UnknownVersion(header.version.get()));
        }
        let total_len = header.total_len.get() as usize;
        if total_len > len {
            return Err(truncated);
        }
        if total_len < len || len > PARCEL_MAX {
            return Err(ParcelError::Oversized { len });
        }
        let computed = checksum_without_itself(header, bytes);
        let stored = header.checksum.get();
        if computed != stored {
            return Err(ParcelError::BadChecksum { stored, computed });
        }

        let header_len = usize::from(header.header_len.get());
        if header_len < FIRST_LEN {
            return Err(ParcelError::BadField("header length"));
        }
        let mut growth = Growth::new(None, false, 0);
        let grown = bytes.get(FIRST_LEN..header_len).ok_or(ParcelError::BadField("header length"))?;
        for (to, from) in growth.as_mut_bytes().iter_mut().zip(grown) {
            *to = *from;
        }
        let mut rest = bytes.get(header_len..).ok_or(ParcelError::BadField("header length"))?;
        let mut text = |field, len: U32, max: usize| {
            let len = len.get() as usize;
            let (text, behind) =
                rest.split_at_checked(len).filter(|_| len <= max).ok_or(ParcelError::BadField(field))?;
            rest = behind;
            Ok(text)
        };
        let command_line = text("command line", header.command_line_len, COMMAND_LINE_MAX)?;
        let previous_build = text("previous build", header.previous_build_len, BUILD_MAX)?;
        let notice = text("notice", header.notice_len, NOTICE_MAX)?;
        let has_root = flag("handover root", header.has_root)?;
        Ok(Parcel {
            generation: header.generation.get(),
            command_line,
            scratch: Span { start: header.scratch_start.get(), len: header.scratch_len.get() },
            boot_image: Span { start: header.boot_image_start.get(), len: header.boot_image_len.get() },
            boot_entry: header.boot_entry.get(),
            handover_root: has_root.then_some(header.handover_root.get()),
            exec_tsc: header.exec_tsc.get(),
            tsc_hz: growth.tsc_hz.get(),
            previous_build,
            notice,
            way_back: growth.way_back()?,
            came_back: flag("field on a way back", growth.came_back)?,
        })
    }
}

fn flag(field: &'static str, value: U32) -> Result<bool, ParcelError> {
    match value.get() {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(ParcelError::BadField(field)),
    }
}

fn text_len(field: &'static str, text: &[u8], max: usize) -> Result<U32, EncodeError> {
    let len = text.len();
    u32::try_from(len).ok().filter(|_| len <= max).map(U32::new).ok_or(EncodeError::TextTooLong { field, len, max })
}

fn checksum_without_itself(header: &Header, bytes: &[u8]) -> u32 {
    let cleared = Header { checksum: U32::ZERO, ..*header };
    let mut digest = CRC32C.digest();
    digest.update(cleared.as_bytes());
    digest.update(bytes.get(FIRST_LEN..).unwrap_or_default());
    digest.finalize()
}
