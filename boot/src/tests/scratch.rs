//! Scratch memory, and the regions that the kernel gets.

use crate::regions::{self, MAX_REGIONS};
use crate::scratch::{self, Bump, ScratchError};
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use bootproto::memmap::{MemoryMap, MemoryRange, MemoryType};
use bootproto::{Jump, Span};
use proptest::prelude::*;

const MIB: u64 = 1 << 20;
const IMAGE: Span = Span { start: MIB, len: MIB };

fn map(memory: u64) -> MemoryMap {
    let ram = |start, end| MemoryRange { start, end, kind: MemoryType::RAM };
    let hole = MemoryRange { start: 0xa_0000, end: MIB, kind: MemoryType::RESERVED };
    MemoryMap::normalise([ram(0, 0xa_0000), hole, ram(MIB, memory)]).unwrap()
}

#[test]
fn its_size_follows_the_memory() {
    let len = |memory: u64| scratch::choose(&map(memory), IMAGE).unwrap().len;
    // 64 MiB less the hole: 8 MiB, and a 64th in whole pages.
    assert_eq!(len(64 * MIB), 8 * MIB + ((64 * MIB - 0x6_0000) / 64).next_multiple_of(4096));
    assert!(len(16 * MIB) < 5 * MIB);
    assert!(len(1 << 30) > 23 * MIB);
    // Never beyond the memory that it lies in.
    let ram = |start, end| MemoryRange { start, end, kind: MemoryType::RAM };
    let split = MemoryMap::normalise([ram(MIB, 3 * MIB), ram(16 * MIB, 1 << 30)]).unwrap();
    assert_eq!(scratch::choose(&split, IMAGE), Ok(Span { start: MIB, len: 2 * MIB }));
}

#[test]
fn an_area_that_was_handed_on_has_to_make_sense() {
    let map = map(64 * MIB);
    let area = |start, len| scratch::is_usable(&map, IMAGE, Span { start, len });
    assert!(area(MIB, 8 * MIB));
    assert!(!area(MIB, 8 * MIB + 1));
    assert!(!area(MIB, MIB / 2));
    assert!(!area(2 * MIB, 8 * MIB));
    assert!(!area(MIB, 64 * MIB));
    assert!(!area(0, 8 * MIB));
    assert!(!area(MIB, u64::MAX - 4095));
}

#[test]
fn a_way_back_lies_in_memory_that_is_not_written_to() {
    let map = map(64 * MIB);
    let area = Span { start: MIB, len: 8 * MIB };
    let untouched = |page_tables, code, moves| {
        scratch::is_untouched(&map, area, &Jump { page_tables, code, moves, ..Jump::default() })
    };
    assert!(untouched(9 * MIB, 10 * MIB, 64 * MIB - 4096));
    for bad in [MIB, 9 * MIB - 4096, 9 * MIB + 1, 64 * MIB, u64::MAX - 4095, u64::MAX] {
        assert!(!untouched(bad, 10 * MIB, 11 * MIB), "{bad:#x}");
        assert!(!untouched(10 * MIB, bad, 11 * MIB), "{bad:#x}");
        assert!(!untouched(10 * MIB, 11 * MIB, bad), "{bad:#x}");
    }
}

#[test]
fn an_image_outside_memory_is_refused() {
    let image = Span { start: 64 * MIB, len: MIB };
    assert_eq!(scratch::choose(&map(64 * MIB), image), Err(ScratchError::ImageNotInMemory(image)));
}

#[test]
fn the_area_is_given_out_once_and_then_it_is_full() {
    let mut room = Bump::behind(IMAGE, Span { start: MIB, len: MIB + 5 * 4096 });
    assert_eq!(room.allocate(1), Ok(2 * MIB));
    assert_eq!(room.allocate(8192), Ok(2 * MIB + 4096));
    assert_eq!(room.allocate(8193), Err(ScratchError::Full { wanted: 8193, left: 8192 }));
    assert_eq!(room.allocate(u64::MAX), Err(ScratchError::Full { wanted: u64::MAX, left: 8192 }));
    assert_eq!(room.allocate(8192), Ok(2 * MIB + 3 * 4096));
    assert_eq!(room.next(), 2 * MIB + 5 * 4096);
    assert_eq!(Bump::behind(IMAGE, Span { start: MIB, len: 4096 }).allocate(1).map_err(drop), Err(()));
}

fn maps() -> impl Strategy<Value = MemoryMap> {
    let range = (0..400u64, 1..100u64, 1..5u32).prop_map(|(start, pages, kind)| MemoryRange {
        start: start << 12,
        end: (start + pages) << 12,
        kind: MemoryType(kind),
    });
    prop::collection::vec(range, 1..20).prop_map(|ranges| MemoryMap::normalise(ranges).unwrap())
}

proptest! {
    /// Regions say the same as the map, and the map can be had back from them, in every generation.
    #[test]
    fn regions_lead_back_to_the_map(map in maps(), which: prop::sample::Index, cut in any::<[u64; 2]>()) {
        let ram: std::vec::Vec<Span> = map.ram().collect();
        prop_assume!(!ram.is_empty());
        let ram = which.get(&ram);
        let inside = |at: u64| ram.start + at % (ram.len + 1) / 4096 * 4096;
        let [a, b] = cut.map(inside);
        let used = Span::between(a.min(b), a.max(b));

        let mut out = [MemoryRegion::empty(); MAX_REGIONS];
        let count = regions::write(&map, used, &mut out).unwrap();
        let regions = &out[..count];
        for region in regions {
            let span = Span::between(region.start, region.end);
            prop_assert!(!span.is_empty());
            prop_assert_eq!(region.kind == MemoryRegionKind::Bootloader, used.contains(span));
        }
        let back = MemoryMap::normalise(regions.iter().map(|region| MemoryRange {
            start: region.start,
            end: region.end,
            kind: match region.kind {
                MemoryRegionKind::UnknownBios(kind) => MemoryType(kind),
                _ => MemoryType::RAM,
            },
        }));
        prop_assert_eq!(back, Ok(map));
    }
}

#[test]
fn regions_that_do_not_fit_are_an_error() {
    assert_eq!(regions::write(&map(64 * MIB), IMAGE, &mut [MemoryRegion::empty(); 3]), None);
}
