//! The Holdover kernel: what happens at boot, in order. Everything else lies in the modules, and in the crates below.
#![no_std]
#![no_main]

extern crate alloc;

mod arch;
mod bench;
mod cmdline;
mod console;
mod demo;
mod donation;
mod drivers;
mod fault;
mod generation;
mod kexec;
mod machine;
mod memory;
mod note;
mod panic;
mod power;
mod random;
mod shell;
mod smp;
mod system;
mod time;
mod write_behind;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bootloader_api::config::{BootloaderConfig, Mapping};
use bootloader_api::{BootInfo, entry_point};
use bootproto::Parcel;
use firmware::Processors;
use frames::Zones;
use log::{info, warn};

use arch::{apic, cpu, paging, tsc};
use cmdline::{CommandLine, DonationKind};
use console::input;
use donation::Sources;
use drivers::{ivshmem, pci, uart, virtio};
use fault::Stage;
use machine::Machine;
use memory::Survey;
use system::System;

/// What the boot stage is asked for.
const CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.mappings.physical_memory = Some(Mapping::FixedAddress(paging::WINDOW));
    config.mappings.dynamic_range_start = Some(paging::WINDOW_END);
    config.kernel_stack_size = 64 * 1024;
    config
};

entry_point!(kernel_main, config = &CONFIG);

fn kernel_main(boot_info: &'static mut BootInfo) -> ! {
    let start = tsc::now();
    let guarded = arch::init(boot_info);
    uart::init();
    let parcel = parcel(boot_info);
    let way_back = kexec::way_back::open(&parcel, &boot_info.memory_regions);
    let command_line = read_command_line(&parcel);
    let clock = time::init(start, parcel.tsc_hz);

    info!(target: "boot", "holdover {}, generation {}", machine::BUILD, parcel.generation);
    info!(target: "time", "{} kHz, {clock}", time::frequency() / 1000);
    console::event(protocol::event::BOOT, |boot| {
        boot.field("generation", parcel.generation).field("build", machine::BUILD)
    });

    fault::early(command_line.panic_at);
    if let Err(reason) = guarded {
        warn!(target: "boot", "no guard page under a trap stack: {reason}");
    }

    if let Err(reason) = way_back {
        warn!(target: "kexec", "no way back: {reason}");
    }

    let rsdp = boot_info.rsdp_addr.into_option();
    let processors = smp::find(rsdp).unwrap_or_else(|reason| {
        warn!(target: "smp", "other CPUs are not found: {reason}");
        Processors::NONE
    });
    let mut survey = Survey::new(&boot_info.memory_regions, parcel.scratch);
    let [to_donate, plugged, shared] = [DonationKind::CarveOut, DonationKind::Mem, DonationKind::Ivshmem]
        .map(|kind| donation::frames_of(command_line.donations(), kind));
    let annex = plugged.saturating_add(shared);
    let early_heap = (parcel.scratch.len / EARLY_HEAP_SHARE).min(survey.spare_scratch(annex) / 2);
    if parcel.handover_root.is_some()
        && let Err(reason) = survey.extend_early_heap(early_heap)
    {
        warn!(target: "mm", "early heap not extended: {reason}");
    }
    let handover = generation::open(&parcel, &survey, early_heap / EARLY_HEAP_A_RANGE);
    let installed = match survey.install(handover.as_ref(), to_donate, annex) {
        Ok(installed) => installed,
        Err(reason) => panic!("no memory to work with: {reason}"),
    };
    let memory = installed.memory;
    memory.keep_at_hand(processors.ids().len().max(1));
    if installed.carve_out.count < to_donate {
        warn!(target: "mm", "only {} frames to donate", installed.carve_out.count);
    }
    if u64::from(installed.annex) < annex {
        warn!(target: "mm", "records for only {} of {annex} frames that devices may bring", installed.annex);
    }
    info!(target: "mm", "{} of {} frames free", memory.free_frames(Zones::Ephemeral), installed.census.total());

    apic::init();
    let mut bus = pci::find();
    let mut devices = virtio::find(memory, &mut bus, command_line.mmio_slots());
    let count = processors.ids().len();
    let disks: Vec<_> = virtio::disks(memory, &mut devices, count).into_iter().map(Arc::new).collect();
    let sources = Sources {
        wanted: command_line.donations().collect(),
        carve_out: installed.carve_out,
        devices,
        shared: ivshmem::find(&mut bus, memory.span().end()),
    };

    input::init();
    cpu::enable_interrupts();
    let mute = (command_line.panic_at == Some(Stage::Mute)).then_some(1);
    smp::start(memory, &processors, installed.census.withheld > 0, mute);
    let online = || smp::all().filter(|&(number, _)| smp::online().any(|online| online == number));
    disks.iter().for_each(|disk| disk.lead_calls(online()));

    let machine =
        Machine { parcel, memory, memory_map: &boot_info.memory_regions, rsdp, census: installed.census, disks };
    let system: &System = Box::leak(Box::new(System::start(machine, sources, command_line.policy, handover)));
    fault::late(command_line.panic_at);
    system.generation.up(memory);
    if smp::has_others() {
        system.begin_chores();
    }
    shell::run(system)
}

/// What part of the scratch area, one in this many, becomes early heap when there is a handover to read: enough for the
/// list of a tmpfs of which no two pages lie together, up to some GiB. It is never more than half of what the records leave.
const EARLY_HEAP_SHARE: u64 = 3;
/// Early heap that a preserved range takes: in a list, and in the tree of what is set aside. Generously.
const EARLY_HEAP_A_RANGE: u64 = 64;

/// What the boot stage put into the ramdisk. Only our own boot stage can start this kernel, so there is no going on
/// without.
fn parcel(boot_info: &BootInfo) -> Parcel<'static> {
    let len = boot_info.ramdisk_len as usize;
    let Some(address) = Option::<u64>::from(boot_info.ramdisk_addr).filter(|&address| address != 0) else {
        panic!("the boot stage gave no parcel");
    };
    // SAFETY: the boot stage maps the ramdisk at this address, for reading, for as long as the kernel runs.
    let bytes = unsafe { core::slice::from_raw_parts(address as *const u8, len) };
    match Parcel::decode(bytes) {
        Ok(parcel) => parcel,
        Err(error) => panic!("the boot stage's parcel: {error}"),
    }
}

/// Parses the command line and sets up the console as it says, so that complaints about it are the first thing said.
fn read_command_line(parcel: &Parcel<'static>) -> CommandLine {
    let text = core::str::from_utf8(parcel.command_line).unwrap_or_default();
    let command_line = CommandLine::parse(text, |_| {});
    console::set_mode(command_line.console);
    console::init_log(command_line.log_level);
    if text.len() < parcel.command_line.len() {
        warn!(target: "cmdline", "not UTF-8; taken as empty");
    }
    CommandLine::parse(text, |complaint| warn!(target: "cmdline", "{complaint}"))
}
