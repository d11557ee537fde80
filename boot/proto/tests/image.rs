//! Bootable files, well made and hostile.

use bootproto::Span;
use bootproto::image::{
    About, BootImage, BuildName, ImageError, KernelNotes, ParseError, Versions, describe, parse_slice, seal,
};
use proptest::prelude::*;
use zerocopy::IntoBytes;

const CODE_OFFSET: usize = 0x1000;
const NOTES_OFFSET: usize = 0x200;
const ENTRY: u32 = 0x10_0010;
/// Where the notes on the kernel stand, behind the entry and the seal.
const ABOUT_OFFSET: usize = NOTES_OFFSET + 24 + 32;
const ABOUT: About = About { versions: Versions { oldest: 2, newest: 5 }, build: BuildName::new("0.2.0 release") };

fn put(file: &mut [u8], offset: usize, bytes: &[u8]) {
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
}

struct Header {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    file_len: u64,
    memory_len: u64,
}

impl Header {
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.kind.to_le_bytes());
        out.extend(self.flags.to_le_bytes());
        for word in [self.offset, self.address, self.address, self.file_len, self.memory_len, 0x1000] {
            out.extend(word.to_le_bytes());
        }
        out
    }
}

fn note(owner: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend((owner.len() as u32 + 1).to_le_bytes());
    out.extend((content.len() as u32).to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend(owner);
    out.resize(out.len() + 4 - owner.len() % 4, 0);
    out.extend(content);
    out
}

/// A file such as the linker makes: headers and notes, code, and zeroed memory behind.
fn file() -> Vec<u8> {
    file_with(&[
        Header { kind: 1, flags: 4, offset: 0, address: 0xf_f000, file_len: 0x1000, memory_len: 0x1000 },
        Header { kind: 1, flags: 5, offset: 0x1000, address: 0x10_0000, file_len: 0x1234, memory_len: 0x1234 },
        Header { kind: 1, flags: 6, offset: 0x2234, address: 0x10_2000, file_len: 0, memory_len: 0x3001 },
    ])
}

fn file_with(headers: &[Header]) -> Vec<u8> {
    let mut file = vec![0; 0x2234];
    put(&mut file, 0, b"\x7fELF\x02\x01\x01");
    put(&mut file, 16, &[2, 0, 62, 0, 1, 0, 0, 0]);
    put(&mut file, 32, &64u64.to_le_bytes());
    put(&mut file, 52, &[64, 0, 56, 0, headers.len() as u8 + 1, 0]);
    let mut notes = note(b"Xen", 18, &u64::from(ENTRY).to_le_bytes());
    notes.extend(note(b"Holdover", 1, &[0; 8]));
    notes.extend(note(b"Holdover", 2, &[2, 0, 0, 0, 5, 0, 0, 0]));
    let mut build = b"0.2.0 release".to_vec();
    build.resize(64, 0);
    notes.extend(note(b"Holdover", 3, &build));
    put(&mut file, NOTES_OFFSET, &notes);
    let notes = Header {
        kind: 4,
        flags: 4,
        offset: NOTES_OFFSET as u64,
        address: 0,
        file_len: notes.len() as u64,
        memory_len: notes.len() as u64,
    };
    for (index, header) in headers.iter().chain([&notes]).enumerate() {
        put(&mut file, 64 + index * 56, &header.bytes());
    }
    for (index, byte) in file[CODE_OFFSET..].iter_mut().enumerate() {
        *byte = (index * 7) as u8;
    }
    file
}

fn sealed() -> Vec<u8> {
    let mut file = file();
    seal(&mut file).unwrap();
    file
}

/// Parses, and feeds the loaded bytes to the seal check in pieces of `piece` bytes.
fn load(file: &[u8], piece: usize) -> Result<BootImage, ImageError> {
    let image = parse_slice(file)?;
    let mut check = image.seal_check();
    for segment in image.segments() {
        let start = segment.file_offset as usize;
        let bytes = &file[start..start + segment.file_len as usize];
        for (index, piece_bytes) in bytes.chunks(piece).enumerate() {
            check.update(segment.file_offset + (index * piece) as u64, piece_bytes);
        }
    }
    check.finish().map(|()| image)
}

fn patched(offset: usize, bytes: &[u8]) -> ImageError {
    let mut file = file();
    put(&mut file, offset, bytes);
    parse_slice(&file).unwrap_err()
}

#[test]
fn a_good_file_says_what_it_wants() {
    let image = parse_slice(&file()).unwrap();
    assert_eq!(image.entry(), ENTRY);
    assert_eq!(image.segments().len(), 3);
    assert_eq!(image.extent(), Span { start: 0xf_f000, len: 0x7000 });
    assert!(!image.is_sealed());
    let room = Span { start: 0x10_0000, len: 0x10_0000 };
    assert_eq!(image.check_fits(room), Err(ImageError::NoRoom { wanted: image.extent(), room }));
    assert_eq!(image.check_fits(image.extent()), Ok(()));
}

#[test]
fn a_sealed_file_passes_in_pieces_of_any_size() {
    let file = sealed();
    for piece in [1, 2, 3, 5, 512, 4096, 1 << 20] {
        assert!(load(&file, piece).unwrap().is_sealed());
    }
    let mut again = file.clone();
    seal(&mut again).unwrap();
    assert!(again == file);
}

#[test]
fn each_fault_has_its_name() {
    assert_eq!(patched(0, b"#!/b"), ImageError::NotElf);
    assert_eq!(patched(4, &[1]), ImageError::WrongClass);
    assert_eq!(patched(5, &[2]), ImageError::WrongClass);
    assert_eq!(patched(18, &[183]), ImageError::WrongMachine(183));
    assert_eq!(patched(16, &[3]), ImageError::WrongType(3));
    assert_eq!(patched(54, &[55]), ImageError::BadProgramHeaders);
    assert_eq!(patched(56, &[200]), ImageError::BadProgramHeaders);
    assert_eq!(patched(56, &[0]), ImageError::NoSegments);
    assert!(matches!(patched(32, &[0xff; 8]), ImageError::Truncated(_)));
    assert_eq!(patched(NOTES_OFFSET + 12, b"Qen"), ImageError::NoPvhNote);
    assert_eq!(patched(NOTES_OFFSET + 16, &[0, 0x20, 0x10]), ImageError::BadEntry(0x10_2000));
    assert_eq!(patched(NOTES_OFFSET + 20, &[1]), ImageError::BadEntry(0x1_0010_0010));
    assert_eq!(parse_slice(b"").unwrap_err(), ImageError::NotElf);
    assert_eq!(parse_slice(&file()[..100]).unwrap_err(), ImageError::Truncated(64 + 4 * 56));
    assert_eq!(parse_slice(&file()[..0x2233]).unwrap_err(), ImageError::Truncated(0x2234));

    let segment = |index: usize, word: usize, value: u64| patched(64 + index * 56 + word, &value.to_le_bytes());
    assert_eq!(segment(1, 40, 0x1233), ImageError::SegmentTooLong(1));
    assert_eq!(segment(2, 40, 1 << 32), ImageError::SegmentTooHigh(2));
    assert_eq!(segment(2, 24, u64::MAX - 1), ImageError::SegmentTooHigh(2));
    assert_eq!(segment(2, 24, 0x10_1000), ImageError::SegmentsOverlap(2));
    assert!(matches!(segment(1, 8, u64::MAX), ImageError::Truncated(_)));

    let many: Vec<Header> =
        (0..9).map(|n| Header { kind: 1, flags: 5, offset: 0, address: n << 12, file_len: 1, memory_len: 1 }).collect();
    assert_eq!(parse_slice(&file_with(&many)).unwrap_err(), ImageError::TooManySegments);
}

#[test]
fn a_read_error_is_passed_on() {
    let error = BootImage::parse(1 << 20, |_, _| Err("I/O error")).unwrap_err();
    assert_eq!(error, ParseError::Read("I/O error"));
}

#[test]
fn a_file_without_the_note_is_refused() {
    let mut file = file();
    put(&mut file, NOTES_OFFSET + 24 + 12, b"H0ldover");
    assert_eq!(parse_slice(&file).unwrap_err(), ImageError::NoSeal);
    assert_eq!(seal(&mut file), Err(ImageError::NoSeal));
}

#[test]
fn a_file_says_what_its_kernel_reads() {
    let image = parse_slice(&file()).unwrap();
    assert_eq!(image.about(), &ABOUT);
    assert_eq!(image.handover_versions().to_string(), "2 to 5");
    assert_eq!(About::of(&file()), Ok(ABOUT));

    let versions = |oldest: u32, newest: u32| {
        let words = [oldest.to_le_bytes(), newest.to_le_bytes()].concat();
        patched(ABOUT_OFFSET + 24, &words)
    };
    for (oldest, newest) in [(0, 0), (0, 3), (6, 5), (u32::MAX, 0)] {
        assert_eq!(versions(oldest, newest), ImageError::BadVersions { oldest, newest });
    }
}

#[test]
fn a_file_of_before_these_notes_reads_version_1() {
    let mut file = file();
    put(&mut file, ABOUT_OFFSET + 12, b"H0ldover");
    put(&mut file, ABOUT_OFFSET + 32 + 12, b"H0ldover");
    let image = parse_slice(&file).unwrap();
    assert_eq!(image.handover_versions(), Versions { oldest: 1, newest: 1 });
    assert_eq!(image.about().build.as_bytes(), b"");
    assert_eq!(About::of(&file), Err(ImageError::NoAbout));
    assert_eq!(describe(&mut file, &ABOUT), Err(ImageError::NoAbout));
}

#[test]
fn a_file_is_described_before_it_is_sealed() {
    let other = About { versions: Versions { oldest: 1, newest: 9 }, build: BuildName::new(&"long".repeat(40)) };
    assert_eq!(other.build.as_bytes().len(), 64);
    let mut file = sealed();
    describe(&mut file, &other).unwrap();
    assert!(matches!(load(&file, 4096), Err(ImageError::BadChecksum { .. })));
    seal(&mut file).unwrap();
    assert_eq!(load(&file, 4096).unwrap().about(), &other);
}

/// The notes that a kernel makes of its constants are those that the walk over notes finds.
#[test]
fn the_notes_of_a_kernel_are_notes() {
    let notes = KernelNotes::new(ABOUT.versions, "0.2.0 release");
    let bytes = notes.as_bytes();
    assert_eq!(&file()[ABOUT_OFFSET..ABOUT_OFFSET + bytes.len()], bytes);
}

#[test]
fn versions_meet_at_the_newest_that_both_know() {
    let versions = |oldest, newest| Versions { oldest, newest };
    for (a, b, common) in [
        ((1, 1), (1, 1), Some(1)),
        ((1, 2), (1, 1), Some(1)),
        ((1, 2), (2, 3), Some(2)),
        ((1, 3), (2, 7), Some(3)),
        ((1, 2), (3, 4), None),
        ((7, 9), (1, 2), None),
    ] {
        let (a, b) = (versions(a.0, a.1), versions(b.0, b.1));
        assert_eq!((a.newest_common(b), b.newest_common(a)), (common, common), "{a} and {b}");
    }
}

proptest! {
    /// All of this file is loaded, so no bit of it may change.
    #[test]
    fn a_flipped_bit_is_refused(position in 0..0x2234usize, bit in 0..8u8) {
        let mut file = sealed();
        file[position] ^= 1 << bit;
        prop_assert!(load(&file, 4096).is_err());
    }

    #[test]
    fn a_truncated_file_is_refused(len in 0..0x2234usize) {
        prop_assert!(load(&sealed()[..len], 4096).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(
        patches in prop::collection::vec((0..0x260usize, any::<u8>()), 0..40),
    ) {
        let mut file = file();
        for (offset, byte) in patches {
            if offset >= 4 {
                file[offset] = byte;
            }
        }
        if let Ok(image) = parse_slice(&file) {
            prop_assert!(image.segments().iter().all(|segment| image.extent().contains(segment.memory)));
        }
        let _ = seal(&mut file);
    }
}
