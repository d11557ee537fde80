//! Handovers that are damaged, or forged with checksums that are right.

mod common;

use common::{FILESYSTEM, FRAMES, Machine, extent, inode, lines, small};
use frames::arena::BASE;
use frames::{FRAME_SIZE, Pfn, PfnRange, PhysAddr};
use handover::{CacheOf, Caches, Extent, ExtentFault, HandoverError, Item, Kind};
use proptest::prelude::*;

/// Two frames of chain, of which every byte counts.
fn two_frames() -> Machine {
    let machine = Machine::write(|writer| {
        let mut fs = writer.filesystem(&FILESYSTEM).unwrap();
        fs.inode(&inode(1, Kind::Directory, 0)).unwrap();
        for ino in 2..40 {
            fs.entry(ino, &[b'a' + ino as u8; 150]).unwrap();
        }
        fs.finish().unwrap();
    });
    assert_eq!(machine.chain.len(), 2);
    machine
}

#[test]
fn every_single_bit_flip_is_refused() {
    let mut machine = two_frames();
    for sequence in 0..machine.chain.len() {
        for bit in 0..FRAME_SIZE * 8 {
            let mask = 1 << (bit % 8);
            machine.page(sequence)[bit / 8] ^= mask;
            assert!(machine.open().is_err(), "bit {bit} of frame {sequence}");
            machine.page(sequence)[bit / 8] ^= mask;
        }
    }
    machine.open().unwrap();
}

#[test]
fn a_root_that_is_no_root_is_refused() {
    let machine = small();
    let at = |address| handover::Handover::open(PhysAddr::new(address), &machine, Caches::Keep).err();
    let root = machine.root.as_u64();
    for address in [0, 1, root + 1, root + 8, BASE.addr().as_u64(), u64::MAX, u64::MAX - 4095, 1 << 63] {
        assert_eq!(at(address), Some(HandoverError::Root(PhysAddr::new(address))), "{address:#x}");
    }
    assert_eq!(at(BASE.offset(200).addr().as_u64()), Some(HandoverError::Magic));
}

#[test]
fn versions_are_told_apart_from_damage() {
    let with = |version: u32, min_reader: u32| {
        let mut machine = small();
        machine.page(0)[8..12].copy_from_slice(&version.to_le_bytes());
        machine.page(0)[12..16].copy_from_slice(&min_reader.to_le_bytes());
        machine.reseal();
        machine.open()
    };
    assert_eq!(with(0, 0).err(), Some(HandoverError::TooOld { version: 0 }));
    assert_eq!(with(9, 9).err(), Some(HandoverError::TooNew { version: 9, min_reader: 9 }));
    assert_eq!(with(9, 1).unwrap().version(), 9);
}

#[test]
fn a_chain_that_comes_back_is_refused() {
    let mut machine = two_frames();
    // The second frame twice: its number is wrong the second time.
    let second = machine.chain[1].addr().as_u64();
    machine.page(0)[36..40].copy_from_slice(&3_u32.to_le_bytes());
    machine.page(0)[40..48].copy_from_slice(&9000_u64.to_le_bytes());
    machine.page(1)[..8].copy_from_slice(&second.to_le_bytes());
    machine.reseal();
    assert_eq!(machine.open().err(), Some(HandoverError::Checksum { sequence: 2 }));

    // The root as its own successor.
    let mut machine = two_frames();
    let root = machine.root.as_u64();
    machine.page(0)[24..32].copy_from_slice(&root.to_le_bytes());
    machine.reseal();
    assert_eq!(machine.open().err(), Some(HandoverError::Checksum { sequence: 1 }));
}

#[test]
fn a_frame_that_says_it_is_another_is_refused() {
    let mut machine = two_frames();
    machine.page(1)[12] = 7;
    machine.reseal();
    assert_eq!(machine.open().err(), Some(HandoverError::Sequence { expected: 1, found: 7 }));
}

#[test]
fn what_follows_the_last_inode_within_a_section_is_refused() {
    let mut payload = small().payload();
    // A section that could be passed over, but not here.
    payload.extend_from_slice(&[78, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    Machine::forge(&payload).open().unwrap();
    let length = u64::from_le_bytes(payload[8..16].try_into().unwrap());
    payload[8..16].copy_from_slice(&(length + 16).to_le_bytes());
    assert!(matches!(Machine::forge(&payload).open().err(), Some(HandoverError::Field { value: 16, .. })));
}

#[test]
fn links_that_lead_nowhere_are_refused() {
    for address in [0, 1, 4096, BASE.addr().as_u64(), BASE.offset(FRAMES).addr().as_u64(), !4095] {
        let mut machine = two_frames();
        machine.page(0)[24..32].copy_from_slice(&address.to_le_bytes());
        machine.reseal();
        let expected = HandoverError::Link { sequence: 1, address: PhysAddr::new(address) };
        assert_eq!(machine.open().err(), Some(expected));
    }
    // A chain that goes on after its last frame.
    let mut machine = small();
    machine.page(0)[24..32].copy_from_slice(&BASE.offset(99).addr().as_u64().to_le_bytes());
    machine.reseal();
    assert!(matches!(machine.open().err(), Some(HandoverError::Link { sequence: 1, .. })));
}

#[test]
fn lengths_that_do_not_fit_the_chain_are_refused() {
    for length in [0, 3968, 3968 + 4080 + 1, u64::MAX] {
        let mut machine = two_frames();
        machine.page(0)[40..48].copy_from_slice(&u64::to_le_bytes(length));
        machine.reseal();
        assert_eq!(machine.open().err(), Some(HandoverError::Length { length, frames: 2 }));
    }
    let mut machine = two_frames();
    machine.page(0)[36..40].copy_from_slice(&u32::MAX.to_le_bytes());
    machine.reseal();
    assert!(matches!(machine.open().err(), Some(HandoverError::Length { .. })));
}

#[test]
fn a_payload_cut_anywhere_is_refused() {
    let payload = small().payload();
    for length in 1..payload.len() {
        assert!(Machine::forge(&payload[..length]).open().is_err(), "{length} bytes");
    }
    Machine::forge(&payload).open().unwrap();
}

#[test]
fn sections_that_are_not_known_are_passed_over_or_refused_as_they_say() {
    let known = small().payload();
    let section = |kind: u32, flags: u32, length: u64| {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes
    };
    for long in [0, 5, 10_000] {
        let mut payload = section(77, 1, long);
        payload.extend(std::iter::repeat_n(0xee, long as usize));
        payload.extend_from_slice(&known);
        payload.extend_from_slice(&section(78, 1, 0));
        let machine = Machine::forge(&payload);
        assert_eq!(lines(&machine.open().unwrap(), &machine), lines(&small().open().unwrap(), &small()));
    }
    let mandatory = [section(77, 0, 0), known.clone()].concat();
    assert_eq!(Machine::forge(&mandatory).open().err(), Some(HandoverError::Section { kind: 77 }));
    for length in [1, 1 << 40, u64::MAX] {
        let endless = section(77, 1, length);
        assert_eq!(Machine::forge(&endless).open().err(), Some(HandoverError::Truncated { at: 0 }));
    }
}

#[test]
fn counts_and_lengths_that_are_huge_end_at_the_end_of_the_bytes() {
    let payload = small().payload();
    // The section's length, the inodes of the filesystem, the label, and the entries of the first inode.
    for (at, width) in [(8, 8), (32, 8), (48, 2), (60 + 68, 4)] {
        let mut huge = payload.clone();
        huge[at..at + width].fill(0xff);
        assert!(Machine::forge(&huge).open().is_err(), "field at {at}");
        huge[at..at + width].fill(0);
        let smaller = Machine::forge(&huge).open();
        assert!(smaller.is_err() || at == 48, "field at {at}: {smaller:?}");
    }
}

/// The faults of a file's extents, in order.
fn faults(size: u64, extents: &[Extent]) -> (Vec<ExtentFault>, u64) {
    let machine = Machine::write(|writer| {
        let mut fs = writer.filesystem(&FILESYSTEM).unwrap();
        for (at, extent) in extents.iter().enumerate() {
            // One file for each, so that the writer joins none of them.
            if at == 0 || extent.index == 0 {
                fs.inode(&inode(2 + at as u64, Kind::Regular, size)).unwrap();
            }
            fs.extent(*extent).unwrap();
        }
        fs.finish().unwrap();
    });
    let handover = machine.open().unwrap();
    let mut items = handover.items(&machine).unwrap();
    let mut faults = Vec::new();
    while let Some(item) = items.next().unwrap() {
        if let Item::Rejected(_, fault) = item {
            faults.push(fault);
        }
    }
    assert_eq!(handover.summary().rejected, faults.len() as u64);
    (faults, handover.summary().content_frames)
}

#[test]
fn extents_that_cannot_be_true_spoil_one_file() {
    use ExtentFault::{BeyondEnd, Empty, InUse, NotPreservable, OutOfOrder};
    let size = 100 * 4096;
    assert_eq!(faults(size, &[extent(0, 3, 100), extent(0, 3, 102)]), (vec![InUse], 3));
    assert_eq!(faults(size, &[extent(0, 3, 100), extent(0, 3, 98), extent(7, 1, 98)]), (vec![InUse], 4));
    assert_eq!(faults(size, &[extent(0, 0, 100)]), (vec![Empty], 0));
    assert_eq!(faults(size, &[extent(5, 3, 100), extent(7, 1, 200)]), (vec![OutOfOrder], 3));
    assert_eq!(faults(size, &[extent(99, 1, 100), extent(100, 1, 110)]), (vec![BeyondEnd], 1));
    assert_eq!(faults(1, &[extent(0, 2, 100)]), (vec![BeyondEnd], 0));
    assert_eq!(faults(1 << 44, &[extent(u32::MAX, 2, 100)]), (vec![BeyondEnd], 0));
    assert_eq!(faults(1 << 44, &[extent(u32::MAX, 1, 100)]), (vec![], 1));
    assert_eq!(faults(1 << 44, &[extent(0, u32::MAX, FRAMES - 1)]), (vec![NotPreservable], 0));
    // In the scratch area, past the end of memory, and at both edges of what is allowed.
    assert_eq!(faults(size, &[extent(0, 2, 14)]), (vec![NotPreservable], 0));
    assert_eq!(faults(size, &[extent(0, 2, FRAMES - 1)]), (vec![NotPreservable], 0));
    assert_eq!(faults(size, &[extent(0, 1, FRAMES - 1)]), (vec![], 1));
    let beyond = Extent { start: Pfn::new((1 << 52) - 1), ..extent(0, 9, 0) };
    assert_eq!(faults(size, &[beyond]), (vec![NotPreservable], 0));
}

#[test]
fn more_filesystems_or_caches_than_anybody_has_are_refused() {
    let of = CacheOf {
        label: b"vda",
        uuid: [0; 16],
        sectors: 0,
        superblock: 0,
        mounts: 0,
        state: 0,
        mounted: 0,
        written: 0,
    };
    let open = |filesystems: u64, caches: u64| {
        Machine::write(|writer| {
            (0..filesystems).for_each(|_| writer.filesystem(&FILESYSTEM).unwrap().finish().unwrap());
            (0..caches).for_each(|_| writer.cache(&of).unwrap().unwrap().finish());
        })
        .open()
        .map(|handover| handover.summary().filesystems)
    };
    assert_eq!(open(64, 16), Ok(64));
    assert_eq!(open(65, 0), Err(HandoverError::TooMany { what: "filesystems", limit: 64 }));
    assert_eq!(open(1, 17), Err(HandoverError::TooMany { what: "caches", limit: 16 }));
}

#[test]
fn an_extent_in_the_handovers_own_frames_is_rejected() {
    let blob = small().chain[0];
    let (faults, frames) = faults(1 << 20, &[Extent { start: blob, ..extent(0, 1, 0) }, extent(5, 1, 300)]);
    assert_eq!((faults, frames), (vec![ExtentFault::InUse], 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Forged payloads: whatever they say, reading ends, both readings agree, and no frame has two uses.
    #[test]
    fn nothing_panics_and_no_frame_is_given_twice(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut payload = small().payload();
        for (at, byte) in &changes {
            let at = at.index(payload.len());
            payload[at] = *byte;
        }
        check(&Machine::forge(&payload))?;
    }

    #[test]
    fn random_payloads_end(payload in prop::collection::vec(any::<u8>(), 0..9000)) {
        check(&Machine::forge(&payload))?;
    }
}

fn check(machine: &Machine) -> Result<(), TestCaseError> {
    let Ok(handover) = machine.open() else { return Ok(()) };
    let mut used: Vec<PfnRange> = machine.chain.iter().map(|&start| PfnRange { start, count: 1 }).collect();
    let mut items = handover.items(machine).unwrap();
    while let Some(item) = items.next().expect("what opened once reads again") {
        if let Item::Extent(extent) = item {
            used.push(extent.frames());
        }
    }
    used.sort();
    prop_assert!(used.windows(2).all(|pair| pair[0].end() <= pair[1].start), "{used:?}");
    let named: u64 = used.iter().map(|range| range.count).sum();
    let reserved: u64 = handover.reserved().map(|range| range.count).sum();
    prop_assert_eq!(named, reserved);
    Ok(())
}
