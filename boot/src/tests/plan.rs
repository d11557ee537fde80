//! Kernel files, well made and hostile.

use crate::plan::{KernelPlan, MAX_SEGMENTS, PlanError, Source};
use bootloader_api::BootloaderConfig;
use proptest::prelude::*;
use std::vec::Vec;

const BASE: u64 = 0xffff_ffff_8000_0000;
const R: u32 = 4;
const W: u32 = 2;
const X: u32 = 1;

#[derive(Clone, Copy)]
struct Header {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    file_len: u64,
    memory_len: u64,
}

const fn load(flags: u32, offset: u64, address: u64, file_len: u64, memory_len: u64) -> Header {
    Header { kind: 1, flags, offset, address, file_len, memory_len }
}

const GOOD: [Header; 3] = [
    load(R | X, 0x1000, BASE, 0x1800, 0x1800),
    load(R, 0x3000, BASE + 0x2000, 0x1000, 0x1000),
    load(R | W, 0x4000, BASE + 0x3000, 0x10, 0x2001),
];

const NAMES: &[u8] = b"\0.bootloader-config\0.shstrtab\0";
const NAMES_AT: u64 = 0x4010;
const SECTIONS_AT: u64 = 0x4030;
const CONFIG_AT: u64 = 0x3100;

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn file_with(headers: &[Header], config: &[u8]) -> Vec<u8> {
    let mut file = std::vec![0; SECTIONS_AT as usize + 3 * 64];
    let mut put = |at: u64, bytes: &[u8]| file[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0, 62, 0, 1, 0, 0, 0]);
    put(24, &words(&[BASE + 0x1234, 64, SECTIONS_AT]));
    put(52, &[64, 0, 56, 0, headers.len() as u8, 0, 64, 0, 3, 0, 2, 0]);
    for (index, header) in (0..).zip(headers) {
        let at = 64 + index * 56;
        put(at, &header.kind.to_le_bytes());
        put(at + 4, &header.flags.to_le_bytes());
        let Header { offset, address, file_len, memory_len, .. } = *header;
        put(at + 8, &words(&[offset, address, address, file_len, memory_len, 0x1000]));
    }
    put(CONFIG_AT, config);
    put(NAMES_AT, NAMES);
    put(SECTIONS_AT + 64, &[1, 0, 0, 0, 1]);
    put(SECTIONS_AT + 64 + 24, &words(&[CONFIG_AT, config.len() as u64]));
    put(SECTIONS_AT + 128, &[20, 0, 0, 0, 3]);
    put(SECTIONS_AT + 128 + 24, &words(&[NAMES_AT, NAMES.len() as u64]));
    file
}

fn config() -> [u8; BootloaderConfig::SERIALIZED_LEN] {
    BootloaderConfig::new_default().serialize()
}

fn good() -> Vec<u8> {
    file_with(&GOOD, &config())
}

fn error_of(headers: &[Header]) -> PlanError {
    KernelPlan::new(&file_with(headers, &config())).unwrap_err()
}

fn patched(at: usize, bytes: &[u8]) -> PlanError {
    let mut file = good();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    KernelPlan::new(&file).unwrap_err()
}

#[test]
fn what_is_not_written_stays_in_place() {
    let file = good();
    let plan = KernelPlan::new(&file).unwrap();
    assert_eq!(plan.entry, BASE + 0x1234);
    assert_eq!(plan.extent().start, BASE);
    assert_eq!(plan.extent().len, 0x6000);
    let [code, constants, data] = plan.segments() else { panic!("three segments") };
    assert_eq!((code.source, code.len), (Source::InPlace(0x1000), 0x2000));
    assert!(code.executable && !code.writable);
    assert_eq!(constants.source, Source::InPlace(0x3000));
    assert!(!constants.executable && !constants.writable);
    assert_eq!(data.source, Source::Copied { file_offset: 0x4000, file_len: 0x10, into: 0 });
    assert_eq!((data.start, data.len), (BASE + 0x3000, 0x3000));
    assert!(data.writable && !data.executable);
}

#[test]
fn what_lies_differently_in_the_file_is_copied() {
    let shifted = load(R, 0x3010, BASE + 0x2800, 0x100, 0x100);
    let file = file_with(&[GOOD[0], shifted], &config());
    let plan = KernelPlan::new(&file).unwrap();
    let segment = plan.segments()[1];
    assert_eq!(segment.source, Source::Copied { file_offset: 0x3010, file_len: 0x100, into: 0x800 });
    assert_eq!((segment.start, segment.len), (BASE + 0x2000, 0x1000));

    let with_zeros = load(R, 0x3000, BASE + 0x2000, 0x100, 0x101);
    let file = file_with(&[GOOD[0], with_zeros], &config());
    let plan = KernelPlan::new(&file).unwrap();
    assert!(matches!(plan.segments()[1].source, Source::Copied { .. }));
}

#[test]
fn each_fault_has_its_name() {
    assert!(matches!(KernelPlan::new(&[]), Err(PlanError::NoKernel)));
    assert!(matches!(KernelPlan::new(b"#!/bin/sh"), Err(PlanError::Elf(_))));
    assert!(matches!(KernelPlan::new(&good()[..0x4030]), Err(PlanError::Elf(_))));
    assert!(matches!(patched(18, &[183]), PlanError::WrongMachine(183)));
    assert!(matches!(patched(16, &[3]), PlanError::WrongType(3)));
    assert!(matches!(patched(24, &[0, 0x20]), PlanError::BadEntry(_)));
    assert!(matches!(patched(NAMES_AT as usize + 1, b"_"), PlanError::NoConfig));
    assert!(matches!(patched(CONFIG_AT as usize, b"_"), PlanError::BadConfig("invalid UUID")));
    assert!(matches!(patched(CONFIG_AT as usize + 18, &[99]), PlanError::ApiVersion));

    let one = |header: Header| error_of(&[header]);
    assert!(matches!(one(load(R | W | X, 0x1000, BASE, 0x10, 0x10)), PlanError::WritableCode(0)));
    assert!(matches!(one(load(R | X, 0x1000, BASE, 0x11, 0x10)), PlanError::SegmentOutsideFile(0)));
    assert!(matches!(one(load(R | X, 0x1000, BASE, 0x9000, 0x9000)), PlanError::SegmentOutsideFile(0)));
    assert!(matches!(one(load(R | X, u64::MAX, BASE, 2, 2)), PlanError::SegmentOutsideFile(0)));
    assert!(matches!(one(load(R | X, 0x1000, u64::MAX - 8, 1, 16)), PlanError::SegmentTooHigh(0)));
    assert!(matches!(one(load(R | X, 0x1000, u64::MAX - 8, 1, 2)), PlanError::SegmentTooHigh(0)));
    assert!(matches!(error_of(&[]), PlanError::NoSegments));
    assert!(matches!(error_of(&[GOOD[1], GOOD[0]]), PlanError::SegmentsOverlap(1)));
    // Not the same bytes, but the same page.
    assert!(matches!(error_of(&[GOOD[0], load(R, 0x3900, BASE + 0x1900, 0x10, 0x10)]), PlanError::SegmentsOverlap(1)));
    let many: Vec<Header> = (0..=MAX_SEGMENTS as u64).map(|n| load(R | X, 0x1000, BASE + n * 0x1000, 1, 1)).collect();
    assert!(matches!(error_of(&many), PlanError::TooManySegments));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(patches in prop::collection::vec((0..400usize, any::<u8>()), 1..20)) {
        let mut file = good();
        let sections = SECTIONS_AT as usize;
        for (at, byte) in patches {
            let at = if at < 200 { at } else { sections + at - 208 };
            if at >= 6 {
                file[at] = byte;
            }
        }
        if let Ok(plan) = KernelPlan::new(&file) {
            for segment in plan.segments() {
                prop_assert!(!(segment.writable && segment.executable));
                if let Source::Copied { file_offset, file_len, into } = segment.source {
                    prop_assert!(file_offset + file_len <= file.len() as u64);
                    prop_assert!(into + file_len <= segment.len);
                }
            }
        }
    }
}
