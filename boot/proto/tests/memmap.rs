//! The memory map against a slow model: a table with one cell per page.

use bootproto::PAGE_SIZE;
use bootproto::memmap::{MAX_RANGES, MapError, MemoryMap, MemoryRange, MemoryType};
use bootproto::pvh::MemmapEntry;
use proptest::prelude::*;

const PAGES: u64 = 64;

fn ranges() -> impl Strategy<Value = Vec<MemoryRange>> {
    let unit = PAGE_SIZE / 4;
    let range = (0..PAGES * 4, 0..40u64, 1..6u32).prop_map(move |(start, len, kind)| MemoryRange {
        start: start * unit,
        end: ((start + len) * unit).min(PAGES * PAGE_SIZE),
        kind: MemoryType(kind),
    });
    prop::collection::vec(range, 0..12)
}

/// The type of one page, by asking every listed range about it.
fn model(listed: &[MemoryRange], page: u64) -> Option<MemoryType> {
    let (start, end) = (page * PAGE_SIZE, (page + 1) * PAGE_SIZE);
    let touched = listed.iter().filter(|range| range.start < range.end && range.start < end && start < range.end);
    let strongest = touched.clone().filter(|range| range.kind != MemoryType::RAM).map(|range| range.kind.0).max();
    let whole_ram =
        touched.clone().any(|range| range.kind == MemoryType::RAM && range.start <= start && end <= range.end);
    match strongest {
        Some(kind) => Some(MemoryType(kind)),
        None => whole_ram.then_some(MemoryType::RAM),
    }
}

proptest! {
    #[test]
    fn agrees_with_the_model(listed in ranges()) {
        let map = MemoryMap::normalise(listed.iter().copied()).unwrap();
        for page in 0..PAGES {
            let found: Vec<_> = map
                .ranges()
                .iter()
                .filter(|range| range.start <= page * PAGE_SIZE && page * PAGE_SIZE < range.end)
                .collect();
            prop_assert!(found.len() <= 1);
            prop_assert_eq!(found.first().map(|range| range.kind), model(&listed, page));
        }
        let ram = (0..PAGES).filter(|&page| model(&listed, page) == Some(MemoryType::RAM)).count();
        prop_assert_eq!(map.ram_bytes(), ram as u64 * PAGE_SIZE);
    }

    #[test]
    fn is_sorted_aligned_and_merged(listed in ranges()) {
        let map = MemoryMap::normalise(listed).unwrap();
        for range in map.ranges() {
            prop_assert!(range.start < range.end);
            prop_assert!(range.span().is_aligned_to(PAGE_SIZE));
        }
        for pair in map.ranges().windows(2) {
            prop_assert!(pair[0].end <= pair[1].start);
            prop_assert!(pair[0].end < pair[1].start || pair[0].kind != pair[1].kind);
        }
    }

    #[test]
    fn a_second_time_changes_nothing(listed in ranges()) {
        let once = MemoryMap::normalise(listed).unwrap();
        let entries: Vec<MemmapEntry> = once.ranges().iter().copied().map(Into::into).collect();
        let twice = MemoryMap::normalise(entries.iter().map(|entry| entry.range().unwrap())).unwrap();
        prop_assert_eq!(once, twice);
    }
}

#[test]
fn too_many_ranges_are_refused() {
    let nth = |n: u64| MemoryRange { start: n * 2 * PAGE_SIZE, end: (n * 2 + 1) * PAGE_SIZE, kind: MemoryType::RAM };
    let count = MAX_RANGES as u64;
    assert!(MemoryMap::normalise((0..count).map(nth)).is_ok());
    assert_eq!(MemoryMap::normalise((0..=count).map(nth)), Err(MapError::TooManyRanges));
}

/// As a boot stage does when it marks what it used: a full map can still be handed on.
#[test]
fn a_full_map_may_be_cut_in_pieces_that_join_again() {
    let nth = |n: u64| {
        [0, 1, 2].map(|part| MemoryRange {
            start: (n * 4 + part) * PAGE_SIZE,
            end: (n * 4 + part + 1) * PAGE_SIZE,
            kind: MemoryType::RAM,
        })
    };
    let map = MemoryMap::normalise((0..MAX_RANGES as u64).flat_map(nth)).unwrap();
    assert_eq!(map.ranges().len(), MAX_RANGES);
}

#[test]
fn a_map_that_grows_too_long_is_refused() {
    let hole = |n: u64| MemoryRange {
        start: (n * 2 + 1) * PAGE_SIZE,
        end: (n * 2 + 2) * PAGE_SIZE,
        kind: MemoryType::RESERVED,
    };
    let all = MemoryRange { start: 0, end: 1 << 30, kind: MemoryType::RAM };
    assert_eq!(MemoryMap::normalise((0..100).map(hole).chain([all])), Err(MapError::TooManyRanges));
}

#[test]
fn addresses_that_do_not_exist_are_refused() {
    for (start, end) in [(0, 1 << 53), (u64::MAX - 1, u64::MAX), (0x2000, 0x1000)] {
        let range = MemoryRange { start, end, kind: MemoryType::RAM };
        assert_eq!(MemoryMap::normalise([range]), Err(MapError::BeyondAddressSpace(0)));
    }
    let wrapping = MemmapEntry { addr: u64::MAX.into(), size: 2.into(), ..Default::default() };
    assert_eq!(wrapping.range(), None);
}
