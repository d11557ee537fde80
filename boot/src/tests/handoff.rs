//! Start infos, well made and hostile.

use crate::handoff::{Buffers, Handoff, HandoffError, MAX_MODULES, ModuleFault, PhysicalMemory};
use bootproto::memmap::{MAX_RANGES, MapError};
use bootproto::parcel::{COMMAND_LINE_MAX, PARCEL_MAX, Parcel, ParcelError};
use bootproto::pvh::{MemmapEntry, Module, START_INFO_MAGIC, StartInfo};
use proptest::prelude::*;
use std::vec::Vec;
use zerocopy::IntoBytes;

const START_INFO: u64 = 0x1000;
const MAP: u64 = 0x2000;
const MODULES: u64 = 0x4000;
const COMMAND_LINE: u64 = 0x5000;
const PARCEL: u64 = 0x8000;
const END: u64 = 0x1_0000;

/// A machine with 64 KiB of memory.
struct Memory(Vec<u8>);

impl PhysicalMemory for Memory {
    fn read(&self, address: u64, out: &mut [u8]) -> Option<()> {
        let start = usize::try_from(address).ok()?;
        out.copy_from_slice(self.0.get(start..start.checked_add(out.len())?)?);
        Some(())
    }
}

impl Memory {
    fn put(&mut self, address: u64, bytes: &[u8]) {
        let start = address as usize;
        self.0[start..start + bytes.len()].copy_from_slice(bytes);
    }
}

fn good_start_info() -> StartInfo {
    StartInfo {
        magic: START_INFO_MAGIC.into(),
        version: 1.into(),
        nr_modules: 0.into(),
        modlist_paddr: MODULES.into(),
        cmdline_paddr: COMMAND_LINE.into(),
        rsdp_paddr: 0xf_0000.into(),
        memmap_paddr: MAP.into(),
        memmap_entries: 1.into(),
        ..StartInfo::default()
    }
}

fn memory(start_info: &StartInfo) -> Memory {
    let mut memory = Memory(std::vec![0; END as usize]);
    memory.put(START_INFO, start_info.as_bytes());
    let ram = MemmapEntry { addr: 0.into(), size: END.into(), kind: 1.into(), ..MemmapEntry::default() };
    memory.put(MAP, ram.as_bytes());
    memory.put(COMMAND_LINE, b"console=tagged\0rubbish");
    memory
}

fn with_module(bytes: &[u8], len: u64) -> Memory {
    let mut memory = memory(&StartInfo { nr_modules: 1.into(), ..good_start_info() });
    let module = Module { paddr: PARCEL.into(), size: len.into(), ..Module::default() };
    memory.put(MODULES, module.as_bytes());
    memory.put(PARCEL, bytes);
    memory
}

fn parcel() -> Vec<u8> {
    let mut bytes = std::vec![0; PARCEL_MAX];
    let len = Parcel { generation: 3, command_line: b"loglevel=warn", ..Parcel::default() }.encode(&mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

fn error(memory: &Memory, address: u64) -> HandoffError {
    Handoff::read(memory, address, &mut Buffers::new()).unwrap_err()
}

fn error_of(change: impl FnOnce(&mut StartInfo)) -> HandoffError {
    let mut start_info = good_start_info();
    change(&mut start_info);
    error(&memory(&start_info), START_INFO)
}

fn module_fault(memory: &Memory) -> Option<ParcelError> {
    let mut buffers = Buffers::new();
    let handoff = Handoff::read(memory, START_INFO, &mut buffers).unwrap();
    let ModuleFault { index: 0, error } = handoff.parcel.unwrap_err().unwrap() else { panic!("wrong module") };
    error
}

#[test]
fn a_first_boot() {
    let mut buffers = Buffers::new();
    let handoff = Handoff::read(&memory(&good_start_info()), START_INFO, &mut buffers).unwrap();
    assert_eq!(handoff.command_line, b"console=tagged");
    assert_eq!(handoff.rsdp, Some(0xf_0000));
    assert_eq!(handoff.parcel, Err(None));
    assert_eq!(handoff.map.ram_bytes(), END);
}

#[test]
fn a_kexec() {
    let bytes = parcel();
    let mut buffers = Buffers::new();
    let memory = with_module(&bytes, bytes.len() as u64);
    let handoff = Handoff::read(&memory, START_INFO, &mut buffers).unwrap();
    assert_eq!(handoff.parcel.unwrap().generation, 3);
}

#[test]
fn a_parcel_behind_another_module() {
    let bytes = parcel();
    let mut memory = memory(&StartInfo { nr_modules: 2.into(), ..good_start_info() });
    let other = Module { paddr: COMMAND_LINE.into(), size: 10.into(), ..Module::default() };
    let module = Module { paddr: PARCEL.into(), size: (bytes.len() as u64).into(), ..Module::default() };
    memory.put(MODULES, other.as_bytes());
    memory.put(MODULES + 32, module.as_bytes());
    memory.put(PARCEL, &bytes);
    let mut buffers = Buffers::new();
    assert!(Handoff::read(&memory, START_INFO, &mut buffers).unwrap().parcel.is_ok());
}

#[test]
fn a_module_that_is_no_parcel_is_named_and_the_boot_goes_on() {
    let mut bytes = parcel();
    let len = bytes.len() as u64;
    let too_long = PARCEL_MAX as u64 + 1;
    assert_eq!(module_fault(&with_module(&bytes, 10)), Some(ParcelError::Truncated { len: 10 }));
    assert_eq!(module_fault(&with_module(&bytes, too_long)), Some(ParcelError::Oversized { len: too_long as usize }));
    assert_eq!(module_fault(&with_module(&bytes, u64::MAX)), Some(ParcelError::Oversized { len: usize::MAX }));
    bytes[50] ^= 1;
    assert!(matches!(module_fault(&with_module(&bytes, len)), Some(ParcelError::BadChecksum { .. })));
    let mut memory = with_module(&bytes, len);
    let lost = Module { paddr: u64::MAX.into(), size: len.into(), ..Module::default() };
    memory.put(MODULES, lost.as_bytes());
    assert_eq!(module_fault(&memory), None);
}

#[test]
fn what_cannot_be_booted_from_is_refused_with_its_reason() {
    assert_eq!(error_of(|info| info.magic = 1.into()), HandoffError::BadMagic(1));
    assert_eq!(error_of(|info| info.version = 0.into()), HandoffError::OldVersion(0));
    let count = MAX_MODULES + 1;
    assert_eq!(
        error_of(|info| info.nr_modules = count.into()),
        HandoffError::TooMany { what: "modules", count, limit: MAX_MODULES }
    );
    let count = MAX_RANGES as u32 + 1;
    assert_eq!(
        error_of(|info| info.memmap_entries = count.into()),
        HandoffError::TooMany { what: "memory ranges", count, limit: MAX_RANGES as u32 }
    );
    let out_of_reach = |what, address| HandoffError::OutOfReach { what, address };
    assert_eq!(error_of(|info| info.memmap_paddr = (END - 8).into()), out_of_reach("memory map", END - 8));
    assert_eq!(error_of(|info| info.memmap_paddr = u64::MAX.into()), out_of_reach("memory map", u64::MAX));
    assert_eq!(error_of(|info| info.cmdline_paddr = END.into()), out_of_reach("command line", END));
    let lost_modules = error_of(|info| {
        info.nr_modules = 1.into();
        info.modlist_paddr = END.into();
    });
    assert_eq!(lost_modules, out_of_reach("module list", END));
    assert_eq!(error(&memory(&good_start_info()), END - 1), out_of_reach("start info", END - 1));

    let mut endless = memory(&good_start_info());
    endless.put(COMMAND_LINE, &[b'x'; COMMAND_LINE_MAX + 1]);
    assert_eq!(error(&endless, START_INFO), HandoffError::CommandLineTooLong);
    let mut wrapping = memory(&good_start_info());
    let entry = MemmapEntry { addr: u64::MAX.into(), size: 2.into(), ..MemmapEntry::default() };
    wrapping.put(MAP, entry.as_bytes());
    assert_eq!(error(&wrapping, START_INFO), HandoffError::Map(MapError::BeyondAddressSpace(0)));
}

#[test]
fn the_longest_command_line_is_taken_whole() {
    let mut memory = memory(&good_start_info());
    memory.put(COMMAND_LINE, &[b'x'; COMMAND_LINE_MAX]);
    let mut buffers = Buffers::new();
    let handoff = Handoff::read(&memory, START_INFO, &mut buffers).unwrap();
    assert_eq!(handoff.command_line.len(), COMMAND_LINE_MAX);
}

proptest! {
    #[test]
    fn no_start_info_makes_it_panic(
        noise in prop::collection::vec((0..0x4100usize, any::<u8>()), 0..200),
        addresses in prop::array::uniform4(prop_oneof![any::<u64>(), 0..END]),
        counts in prop::array::uniform2(0..200u32),
    ) {
        let [map, modules, command_line, start] = addresses;
        let mut memory = memory(&StartInfo {
            nr_modules: (counts[0] % 10).into(),
            modlist_paddr: modules.into(),
            cmdline_paddr: command_line.into(),
            memmap_paddr: map.into(),
            memmap_entries: counts[1].into(),
            ..good_start_info()
        });
        for (at, byte) in noise {
            memory.0[0x1ff0 + at] = byte;
        }
        let mut buffers = Buffers::new();
        if let Ok(handoff) = Handoff::read(&memory, START_INFO, &mut buffers) {
            prop_assert!(handoff.map.ranges().iter().all(|range| range.start < range.end));
        }
        let _ = Handoff::read(&memory, start, &mut Buffers::new());
    }
}
