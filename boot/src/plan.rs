//! What is to be done with the kernel's file: which part goes where, with which rights.
//!
//! The file lies in the boot stage's read-only data. A segment that is never written is mapped where it lies; one that
//! is written, or that does not lie in the file as it does in memory, is copied. No page is writable and executable.

use bootloader_api::BootloaderConfig;
use bootloader_api::info::TlsTemplate;
use bootproto::{PAGE_SIZE, Span};
use core::fmt;
use elf::ElfBytes;
use elf::abi;
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::parse::ParseError;
use elf::segment::ProgramHeader;

/// The most segments that a kernel may have.
pub const MAX_SEGMENTS: usize = 8;
/// The section that `entry_point!` puts the configuration into.
const CONFIG_SECTION: &str = ".bootloader-config";
/// Where `BootloaderConfig::serialize` puts the API's version.
const API_VERSION_BYTES: core::ops::Range<usize> = 16..23;

/// Why a kernel is not started.
#[derive(Debug)]
pub enum PlanError {
    /// This boot stage was built without a kernel.
    NoKernel,
    /// The file is not ELF, or not whole.
    Elf(ParseError),
    /// The file is not for 64-bit x86.
    WrongMachine(u16),
    /// The file is of this ELF type rather than a static executable.
    WrongType(u16),
    /// There is no `.bootloader-config`: the kernel does not use `entry_point!`.
    NoConfig,
    /// The configuration cannot be read.
    BadConfig(&'static str),
    /// The kernel was built with another version of `bootloader_api`.
    ApiVersion,
    /// There is nothing to load.
    NoSegments,
    /// There are more than [`MAX_SEGMENTS`] segments.
    TooManySegments,
    /// The segment with this number is writable and executable.
    WritableCode(usize),
    /// The segment with this number is longer in the file than in memory, or not in the file.
    SegmentOutsideFile(usize),
    /// The segment with this number shares a page with the one before, or lies below it.
    SegmentsOverlap(usize),
    /// The segment with this number ends beyond the address space.
    SegmentTooHigh(usize),
    /// The entry is not in code.
    BadEntry(u64),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kernel: ")?;
        match self {
            PlanError::NoKernel => f.write_str("there is none in this boot stage"),
            PlanError::Elf(error) => write!(f, "bad ELF file: {error}"),
            PlanError::WrongMachine(machine) => write!(f, "built for ELF machine {machine}, not for x86-64"),
            PlanError::WrongType(kind) => write!(f, "ELF type {kind} is not a static executable"),
            PlanError::NoConfig => write!(f, "no section {CONFIG_SECTION}"),
            PlanError::BadConfig(why) => write!(f, "bad {CONFIG_SECTION}: {why}"),
            PlanError::ApiVersion => f.write_str("built with another version of bootloader_api"),
            PlanError::NoSegments => f.write_str("no segments to load"),
            PlanError::TooManySegments => write!(f, "more than {MAX_SEGMENTS} segments"),
            PlanError::WritableCode(index) => write!(f, "segment {index} is writable and executable"),
            PlanError::SegmentOutsideFile(index) => write!(f, "segment {index} is not within the file"),
            PlanError::SegmentsOverlap(index) => {
                write!(f, "segment {index} does not lie above the pages of the one before")
            }
            PlanError::SegmentTooHigh(index) => write!(f, "segment {index} ends beyond the address space"),
            PlanError::BadEntry(entry) => write!(f, "no code at the entry {entry:#x}"),
        }
    }
}

impl core::error::Error for PlanError {}

/// Where a segment's pages come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// They lie in the file, from this offset on.
    InPlace(u64),
    /// They are to be made: zeros, but for a part of the file.
    Copied {
        /// Where that part starts in the file.
        file_offset: u64,
        /// Its length.
        file_len: u64,
        /// Where it goes, counted from the start of the first page.
        into: u64,
    },
}

/// Whole pages to map, with one set of rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The first virtual address.
    pub start: u64,
    /// How many bytes.
    pub len: u64,
    /// Whether the kernel may write them.
    pub writable: bool,
    /// Whether the kernel may execute them.
    pub executable: bool,
    /// Where they come from.
    pub source: Source,
}

/// What the kernel's file says, checked.
#[derive(Debug)]
pub struct KernelPlan {
    /// The virtual address of the entry.
    pub entry: u64,
    /// How the kernel wants to be started.
    pub config: BootloaderConfig,
    /// Its thread-local storage template, if it has one.
    pub tls: Option<TlsTemplate>,
    segments: [Segment; MAX_SEGMENTS],
    count: usize,
}

impl KernelPlan {
    /// Checks a kernel's file.
    pub fn new(file: &[u8]) -> Result<KernelPlan, PlanError> {
        if file.is_empty() {
            return Err(PlanError::NoKernel);
        }
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(PlanError::Elf)?;
        if elf.ehdr.e_machine != abi::EM_X86_64 || elf.ehdr.class != Class::ELF64 {
            return Err(PlanError::WrongMachine(elf.ehdr.e_machine));
        }
        if elf.ehdr.e_type != abi::ET_EXEC {
            return Err(PlanError::WrongType(elf.ehdr.e_type));
        }
        let mut plan = KernelPlan {
            entry: elf.ehdr.e_entry,
            config: config(&elf)?,
            tls: None,
            segments: [Segment { start: 0, len: 0, writable: false, executable: false, source: Source::InPlace(0) };
                MAX_SEGMENTS],
            count: 0,
        };
        for (index, header) in elf.segments().into_iter().flat_map(|table| table.iter()).enumerate() {
            match header.p_type {
                abi::PT_LOAD if header.p_memsz > 0 => plan.push(index, &header, file.len() as u64)?,
                abi::PT_TLS => {
                    plan.tls = Some(TlsTemplate {
                        start_addr: header.p_vaddr,
                        file_size: header.p_filesz,
                        mem_size: header.p_memsz,
                    });
                }
                _ => {}
            }
        }
        if plan.count == 0 {
            return Err(PlanError::NoSegments);
        }
        let starts_in_code = plan.segments().iter().any(|segment| {
            let entry = Span { start: plan.entry, len: 1 };
            segment.executable && Span { start: segment.start, len: segment.len }.contains(entry)
        });
        if starts_in_code { Ok(plan) } else { Err(PlanError::BadEntry(plan.entry)) }
    }

    /// The segments, by ascending address; no two share a page.
    pub fn segments(&self) -> &[Segment] {
        self.segments.get(..self.count).unwrap_or_default()
    }

    /// All virtual addresses from the first segment to the last.
    pub fn extent(&self) -> Span {
        let start = self.segments().first().map_or(0, |first| first.start);
        let end = self.segments().last().map_or(start, |last| last.start + last.len);
        Span::between(start, end)
    }

    fn push(&mut self, index: usize, header: &ProgramHeader, file_len: u64) -> Result<(), PlanError> {
        let writable = header.p_flags & abi::PF_W != 0;
        let executable = header.p_flags & abi::PF_X != 0;
        if writable && executable {
            return Err(PlanError::WritableCode(index));
        }
        let in_file = header.p_offset.checked_add(header.p_filesz).is_some_and(|end| end <= file_len);
        if header.p_filesz > header.p_memsz || !in_file {
            return Err(PlanError::SegmentOutsideFile(index));
        }
        let into = header.p_vaddr % PAGE_SIZE;
        let start = header.p_vaddr - into;
        let end = header
            .p_vaddr
            .checked_add(header.p_memsz)
            .and_then(|end| end.checked_next_multiple_of(PAGE_SIZE))
            .ok_or(PlanError::SegmentTooHigh(index))?;
        if self.count > 0 && start < self.extent().end().unwrap_or(u64::MAX) {
            return Err(PlanError::SegmentsOverlap(index));
        }
        let lies_as_in_memory = header.p_offset % PAGE_SIZE == into && header.p_filesz == header.p_memsz;
        let source = if lies_as_in_memory && !writable {
            Source::InPlace(header.p_offset - into)
        } else {
            Source::Copied { file_offset: header.p_offset, file_len: header.p_filesz, into }
        };
        let slot = self.segments.get_mut(self.count).ok_or(PlanError::TooManySegments)?;
        *slot = Segment { start, len: end - start, writable, executable, source };
        self.count += 1;
        Ok(())
    }
}

fn config(elf: &ElfBytes<'_, LittleEndian>) -> Result<BootloaderConfig, PlanError> {
    let section = elf.section_header_by_name(CONFIG_SECTION).map_err(PlanError::Elf)?.ok_or(PlanError::NoConfig)?;
    let (bytes, _) = elf.section_data(&section).map_err(PlanError::Elf)?;
    let config = BootloaderConfig::deserialize(bytes).map_err(PlanError::BadConfig)?;
    // The version in the configuration is private to the API; its bytes are not.
    let ours = BootloaderConfig::new_default().serialize();
    if bytes.get(API_VERSION_BYTES) != ours.get(API_VERSION_BYTES) {
        return Err(PlanError::ApiVersion);
    }
    Ok(config)
}
