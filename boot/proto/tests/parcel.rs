//! The parcel against hostile bytes: what was written comes back, and nothing else passes.

use bootproto::parcel::{BUILD_MAX, COMMAND_LINE_MAX, EncodeError, NOTICE_MAX, PARCEL_MAX, Parcel, ParcelError};
use bootproto::{Jump, Span};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Owned {
    numbers: (u32, u32, Option<u64>, u64, u64),
    spans: [(u64, u64); 2],
    command_line: Vec<u8>,
    previous_build: Vec<u8>,
    notice: Vec<u8>,
    way_back: Option<[u64; 5]>,
    came_back: bool,
}

impl Owned {
    fn parcel(&self) -> Parcel<'_> {
        let span = |(start, len)| Span { start, len };
        Parcel {
            generation: self.numbers.0,
            command_line: &self.command_line,
            scratch: span(self.spans[0]),
            boot_image: span(self.spans[1]),
            boot_entry: self.numbers.1,
            handover_root: self.numbers.2,
            exec_tsc: self.numbers.3,
            tsc_hz: self.numbers.4,
            previous_build: &self.previous_build,
            notice: &self.notice,
            way_back: self.way_back.map(|[page_tables, code, moves, code_copy, start_info]| Jump {
                page_tables,
                code,
                moves,
                code_copy,
                start_info,
                entry: self.numbers.0,
            }),
            came_back: self.came_back,
        }
    }

    fn encoded(&self) -> Vec<u8> {
        let mut out = vec![0; PARCEL_MAX];
        let len = self.parcel().encode(&mut out).unwrap();
        out.truncate(len);
        out
    }
}

fn parcels() -> impl Strategy<Value = Owned> {
    (
        any::<(u32, u32, Option<u64>, u64, u64)>(),
        any::<[(u64, u64); 2]>(),
        vec(any::<u8>(), 0..=COMMAND_LINE_MAX),
        vec(any::<u8>(), 0..=BUILD_MAX),
        vec(any::<u8>(), 0..=NOTICE_MAX),
        any::<Option<[u64; 5]>>(),
        any::<bool>(),
    )
        .prop_map(|(numbers, spans, command_line, previous_build, notice, way_back, came_back)| Owned {
            numbers,
            spans,
            command_line,
            previous_build,
            notice,
            way_back,
            came_back,
        })
}

/// The parcel with another header: what the header is from its 96th byte on, and what it is called to be long.
fn with_growth(bytes: &[u8], growth: &[u8]) -> Vec<u8> {
    let texts = usize::from(u16::from_le_bytes([bytes[10], bytes[11]]));
    let mut other = [&bytes[..FIRST_HEADER], growth, &bytes[texts..]].concat();
    let header_len = (FIRST_HEADER + growth.len()) as u16;
    let total_len = other.len() as u32;
    other[10..12].copy_from_slice(&header_len.to_le_bytes());
    other[12..16].copy_from_slice(&total_len.to_le_bytes());
    other[16..20].fill(0);
    let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(&other);
    other[16..20].copy_from_slice(&checksum.to_le_bytes());
    other
}

/// The header as it was when it had not grown yet.
const FIRST_HEADER: usize = 96;

proptest! {
    /// A kernel of before the header grew, and one of after it will have grown again.
    #[test]
    fn shorter_and_longer_headers_are_understood(owned in parcels(), more in vec(any::<u8>(), 0..100)) {
        let bytes = owned.encoded();
        let old = Parcel { way_back: None, came_back: false, tsc_hz: 0, ..owned.parcel() };
        let first = with_growth(&bytes, &[]);
        prop_assert_eq!(Parcel::decode(&first), Ok(old));
        let growth = &bytes[FIRST_HEADER..usize::from(bytes[10])];
        let longer = with_growth(&bytes, &[growth, &more].concat());
        prop_assume!(longer.len() <= PARCEL_MAX);
        prop_assert_eq!(Parcel::decode(&longer), Ok(owned.parcel()));
    }

    #[test]
    fn what_was_written_comes_back(owned in parcels()) {
        let bytes = owned.encoded();
        prop_assert_eq!(bytes.len(), owned.parcel().encoded_len());
        prop_assert_eq!(Parcel::decode(&bytes), Ok(owned.parcel()));
    }

    #[test]
    fn any_flipped_bit_is_refused(owned in parcels(), position: prop::sample::Index, bit in 0..8u8) {
        let mut bytes = owned.encoded();
        let position = position.index(bytes.len());
        bytes[position] ^= 1u8 << bit;
        prop_assert!(Parcel::decode(&bytes).is_err());
    }

    #[test]
    fn any_truncation_and_any_trailing_byte_are_refused(owned in parcels(), cut: prop::sample::Index) {
        let mut bytes = owned.encoded();
        prop_assert!(Parcel::decode(&bytes[..cut.index(bytes.len())]).is_err());
        bytes.push(0);
        prop_assert_eq!(Parcel::decode(&bytes), Err(ParcelError::Oversized { len: bytes.len() }));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..512), as_parcel: bool) {
        let mut bytes = bytes;
        if as_parcel && bytes.len() >= 12 {
            bytes[..12].copy_from_slice(b"HOLDPRCL\x01\x00\x80\x00");
        }
        prop_assert!(Parcel::decode(&bytes).is_err());
    }

    #[test]
    fn a_buffer_one_byte_short_is_an_error(owned in parcels()) {
        let needed = owned.parcel().encoded_len();
        let mut out = vec![0; needed - 1];
        prop_assert_eq!(
            owned.parcel().encode(&mut out),
            Err(EncodeError::BufferTooSmall { needed, given: needed - 1 })
        );
    }
}

/// Every bit of one parcel, so that no field escapes by chance.
#[test]
fn every_single_bit_counts() {
    let parcel = Parcel {
        generation: 7,
        command_line: b"console=tagged",
        scratch: Span { start: 0x10_0000, len: 0x90_0000 },
        handover_root: Some(0x4000_0000),
        way_back: Some(Jump { page_tables: 0x5000_0000, entry: 0x10_0000, ..Jump::default() }),
        ..Parcel::default()
    };
    let mut bytes = [0; PARCEL_MAX];
    let len = parcel.encode(&mut bytes).unwrap();
    for bit in 0..len * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Parcel::decode(&bytes[..len]).is_err(), "bit {bit} was not noticed");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(Parcel::decode(&bytes[..len]), Ok(parcel));
}

#[test]
fn texts_have_limits() {
    let long = vec![b'x'; COMMAND_LINE_MAX + 1];
    let parcel = Parcel { command_line: &long, ..Parcel::default() };
    assert_eq!(
        parcel.encode(&mut [0; PARCEL_MAX]),
        Err(EncodeError::TextTooLong { field: "command line", len: COMMAND_LINE_MAX + 1, max: COMMAND_LINE_MAX })
    );
}
