//! Tables, well made and hostile.

use firmware::{AcpiError, MOST, Physical, Signature, processors};
use proptest::prelude::*;

/// Memory that begins at [`BASE`].
struct Memory(Vec<u8>);

const BASE: u64 = 0xe_0000;
const ROOT: u64 = BASE + 0x10;
const LIST: u64 = BASE + 0x100;
const MADT: u64 = BASE + 0x400;
const SIZE: usize = 0x2_0000;

impl Physical for Memory {
    fn read(&self, address: u64, out: &mut [u8]) -> Option<()> {
        let start = usize::try_from(address.checked_sub(BASE)?).ok()?;
        out.copy_from_slice(self.0.get(start..start.checked_add(out.len())?)?);
        Some(())
    }
}

impl Memory {
    fn put(&mut self, address: u64, bytes: &[u8]) {
        let start = (address - BASE) as usize;
        self.0[start..start + bytes.len()].copy_from_slice(bytes);
    }
}

/// Makes the bytes add up to zero by the one at `at`.
fn seal(bytes: &mut [u8], at: usize) {
    bytes[at] = 0;
    bytes[at] = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
}

fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut table = vec![0; 36];
    table[..4].copy_from_slice(signature);
    table.extend_from_slice(body);
    let len = table.len() as u32;
    table[4..8].copy_from_slice(&len.to_le_bytes());
    seal(&mut table, 9);
    table
}

fn root(revision: u8, short: u64, long: u64) -> Vec<u8> {
    let mut root = vec![0; 36];
    root[..8].copy_from_slice(b"RSD PTR ");
    root[15] = revision;
    root[16..20].copy_from_slice(&(short as u32).to_le_bytes());
    root[20..24].copy_from_slice(&36u32.to_le_bytes());
    root[24..32].copy_from_slice(&long.to_le_bytes());
    seal(&mut root[..20], 8);
    seal(&mut root, 32);
    root
}

fn processor(id: u8, flags: u32) -> Vec<u8> {
    [vec![0, 8, id, id], flags.to_le_bytes().to_vec()].concat()
}

fn wide_processor(id: u32) -> Vec<u8> {
    [vec![9, 16, 0, 0], id.to_le_bytes().to_vec(), 1u32.to_le_bytes().to_vec(), vec![0; 4]].concat()
}

fn madt(local_apic: u32, records: &[u8]) -> Vec<u8> {
    table(b"APIC", &[&local_apic.to_le_bytes()[..], &[1, 0, 0, 0], records].concat())
}

fn machine(root: &[u8], list: &[u8], madt: &[u8]) -> Memory {
    let mut memory = Memory(vec![0; SIZE]);
    memory.put(ROOT, root);
    memory.put(LIST, list);
    memory.put(MADT, madt);
    memory
}

/// A machine with these records.
fn with(records: &[u8]) -> Memory {
    // A table that is not asked for, and is none, comes first.
    let list = table(b"XSDT", &[7u64.to_le_bytes(), MADT.to_le_bytes()].concat());
    machine(&root(2, 0, LIST), &list, &madt(0xfee0_0000, records))
}

#[test]
fn processors_that_are_there_are_found_in_order_and_once() {
    let records = [processor(3, 1), vec![1, 12].into_iter().chain([0; 10]).collect(), processor(5, 0), processor(0, 1)];
    let memory = with(&[records.concat(), processor(3, 1), wide_processor(7)].concat());
    let found = processors(&memory, ROOT).unwrap();
    assert_eq!(found.ids(), [3, 0, 7]);
    assert_eq!(found.left_out, 0);
}

#[test]
fn a_root_of_the_first_version_will_do() {
    let list = table(b"RSDT", &(MADT as u32).to_le_bytes());
    let memory = machine(&root(0, LIST, 0), &list, &madt(0xfee0_0000, &processor(1, 1)));
    assert_eq!(processors(&memory, ROOT).unwrap().ids(), [1]);
}

#[test]
fn too_many_and_too_large_are_counted() {
    let many: Vec<u8> = (0..100).flat_map(|id| processor(id, 1)).collect();
    let found = processors(&with(&[many, wide_processor(255), wide_processor(1 << 20)].concat()), ROOT).unwrap();
    assert_eq!((found.ids().len(), found.left_out), (MOST, 100 - MOST + 2));
}

#[test]
fn what_is_wrong_is_named() {
    let good = with(&processor(1, 1));
    let list = table(b"XSDT", &MADT.to_le_bytes());
    let refused = |memory: &Memory| processors(memory, ROOT).unwrap_err();
    let apic = Signature(*b"APIC");

    assert_eq!(processors(&good, 0), Err(AcpiError::NoMemory(0)));
    assert_eq!(processors(&good, u64::MAX - 4), Err(AcpiError::NoMemory(u64::MAX - 4)));
    assert_eq!(processors(&good, ROOT + 1), Err(AcpiError::NoRoot(ROOT + 1)));
    let none = machine(&root(2, 0, LIST), &table(b"XSDT", &[]), &[]);
    assert_eq!(refused(&none), AcpiError::Missing(apic));
    let other = machine(&root(2, 0, LIST), &table(b"XXXX", &[]), &[]);
    assert_eq!(refused(&other), AcpiError::Expected(Signature(*b"XSDT")));
    let elsewhere = machine(&root(2, 0, LIST), &list, &madt(0xfee1_0000, &processor(1, 1)));
    assert_eq!(refused(&elsewhere), AcpiError::LocalApic(0xfee1_0000));

    let mut long = madt(0xfee0_0000, &processor(1, 1));
    long[4..8].copy_from_slice(&(1u32 << 30).to_le_bytes());
    assert_eq!(refused(&machine(&root(2, 0, LIST), &list, &long)), AcpiError::Length(apic, 1 << 30));
    let mut changed = madt(0xfee0_0000, &processor(1, 1));
    changed[47] ^= 1;
    assert_eq!(refused(&machine(&root(2, 0, LIST), &list, &changed)), AcpiError::Checksum(apic));
}

#[test]
fn a_record_may_neither_be_empty_nor_end_beyond_the_table() {
    for records in
        [vec![0, 0], vec![0], vec![0, 7, 1, 1, 1, 0, 0], vec![200, 3, 0, 9, 4, 0], vec![9, 8, 0, 0, 1, 0, 0, 0]]
    {
        let refused = processors(&with(&records), ROOT).unwrap_err();
        assert!(matches!(refused, AcpiError::Record { .. }), "{records:?}: {refused:?}");
    }
}

proptest! {
    /// Whatever is in memory, the answer comes, and is one that can be used.
    #[test]
    fn any_records(records in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(found) = processors(&with(&records), ROOT) {
            prop_assert!(found.ids().len() <= MOST && !found.ids().contains(&0xff));
        }
    }

    #[test]
    fn any_change(at in 0usize..0x500, byte: u8, again in 0usize..0x500) {
        let mut memory = with(&[processor(1, 1), wide_processor(2)].concat());
        memory.0[at] = byte;
        memory.0[again] ^= byte;
        let _ = processors(&memory, ROOT);
    }
}
