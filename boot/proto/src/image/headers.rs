//! The file's headers: which machine it is for, and what is loaded where.

use super::seal::{CRC32C, SealDigest};
use super::{ImageError, MAX_SEGMENTS, ParseError};
use crate::Span;
use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::parse::ParseAt;
use elf::segment::ProgramHeader;

/// The most program headers that are looked at.
const MAX_HEADERS: usize = 16;
const FILE_HEADER_LEN: usize = 64;
const PROGRAM_HEADER_LEN: usize = 56;

/// A part of the file that is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Where its bytes start in the file.
    pub file_offset: u64,
    /// How many bytes the file has of it; the rest of the memory is zero.
    pub file_len: u64,
    /// The memory that it wants.
    pub memory: Span,
    /// Whether it is code.
    pub executable: bool,
}

impl Segment {
    /// The part of its memory that comes from the file.
    pub(super) fn filled(&self) -> Span {
        Span { start: self.memory.start, len: self.file_len }
    }
}

/// The headers of the file, as they stand there.
pub(super) struct Headers {
    file: [u8; FILE_HEADER_LEN],
    table: [u8; MAX_HEADERS * PROGRAM_HEADER_LEN],
    table_len: usize,
}

impl Headers {
    pub(super) fn read<E>(
        read: &mut impl FnMut(u64, &mut [u8]) -> Result<(), ParseError<E>>,
    ) -> Result<Headers, ParseError<E>> {
        let mut magic = [0; 4];
        match read(0, &mut magic) {
            Ok(()) if magic == abi::ELFMAGIC => {}
            Err(ParseError::Read(error)) => return Err(ParseError::Read(error)),
            _ => return Err(ImageError::NotElf.into()),
        }
        let mut headers =
            Headers { file: [0; FILE_HEADER_LEN], table: [0; MAX_HEADERS * PROGRAM_HEADER_LEN], table_len: 0 };
        read(0, &mut headers.file)?;
        let file = parsed_file_header(&headers.file)?;
        if usize::from(file.e_phentsize) != PROGRAM_HEADER_LEN {
            return Err(ImageError::BadProgramHeaders.into());
        }
        headers.table_len = usize::from(file.e_phnum) * PROGRAM_HEADER_LEN;
        let table = headers.table.get_mut(..headers.table_len).ok_or(ImageError::BadProgramHeaders)?;
        read(file.e_phoff, table)?;
        Ok(headers)
    }

    fn table(&self) -> &[u8] {
        self.table.get(..self.table_len).unwrap_or_default()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ProgramHeader> + '_ {
        self.table()
            .chunks_exact(PROGRAM_HEADER_LEN)
            .filter_map(|entry| ProgramHeader::parse_at(LittleEndian, Class::ELF64, &mut 0, entry).ok())
    }

    pub(super) fn digest(&self) -> SealDigest {
        let mut digest = CRC32C.digest();
        digest.update(&self.file);
        digest.update(self.table());
        digest
    }

    /// The segments to load, checked against the file's length and against each other.
    pub(super) fn segments(&self, file_len: u64) -> Result<([Segment; MAX_SEGMENTS], usize), ImageError> {
        let mut segments = [Segment::default(); MAX_SEGMENTS];
        let mut count = 0;
        let mut floor = 0;
        for (index, header) in self.iter().enumerate() {
            if header.p_type != abi::PT_LOAD || header.p_memsz == 0 {
                continue;
            }
            let (segment, end) = checked_segment(index, &header, file_len)?;
            if segment.memory.start < floor {
                return Err(ImageError::SegmentsOverlap(index));
            }
            floor = end;
            *segments.get_mut(count).ok_or(ImageError::TooManySegments)? = segment;
            count += 1;
        }
        if count == 0 {
            return Err(ImageError::NoSegments);
        }
        Ok((segments, count))
    }
}

fn parsed_file_header(bytes: &[u8; FILE_HEADER_LEN]) -> Result<FileHeader<LittleEndian>, ImageError> {
    let (ident, tail) = bytes.split_at(abi::EI_NIDENT);
    let ident = parse_ident::<LittleEndian>(ident).map_err(|_| ImageError::WrongClass)?;
    if ident.1 != Class::ELF64 {
        return Err(ImageError::WrongClass);
    }
    let header = FileHeader::parse_tail(ident, tail).map_err(|_| ImageError::WrongClass)?;
    if header.e_machine != abi::EM_X86_64 {
        return Err(ImageError::WrongMachine(header.e_machine));
    }
    if header.e_type != abi::ET_EXEC {
        return Err(ImageError::WrongType(header.e_type));
    }
    Ok(header)
}

/// The segment and the end of its memory.
fn checked_segment(index: usize, header: &ProgramHeader, file_len: u64) -> Result<(Segment, u64), ImageError> {
    if header.p_filesz > header.p_memsz {
        return Err(ImageError::SegmentTooLong(index));
    }
    let file_end = header.p_offset.saturating_add(header.p_filesz);
    if file_end > file_len {
        return Err(ImageError::Truncated(file_end));
    }
    let memory = Span { start: header.p_paddr, len: header.p_memsz };
    let end = memory.end().filter(|&end| end <= 1 << 32).ok_or(ImageError::SegmentTooHigh(index))?;
    let segment = Segment {
        file_offset: header.p_offset,
        file_len: header.p_filesz,
        memory,
        executable: header.p_flags & abi::PF_X != 0,
    };
    Ok((segment, end))
}
