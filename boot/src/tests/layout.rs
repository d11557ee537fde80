//! Virtual addresses for all kinds of configurations.

use crate::layout::{Layout, LayoutError, Place, Wanted};
use bootloader_api::config::{BootloaderConfig, Mapping};
use bootproto::Span;
use proptest::prelude::*;

const KERNEL: u64 = 0xffff_ffff_8000_0000;
const WINDOW: u64 = 0xffff_8000_0000_0000;
const GIB: u64 = 1 << 30;

fn wanted() -> Wanted {
    Wanted {
        image: Span { start: KERNEL, len: 0x20_0000 },
        switch: Span { start: 0x11_0000, len: 0x1000 },
        memory_end: 64 << 20,
        boot_info_len: 0x2000,
        ramdisk_len: 0x90,
    }
}

fn layout(change: impl FnOnce(&mut BootloaderConfig)) -> Result<Layout, LayoutError> {
    let mut config = BootloaderConfig::new_default();
    change(&mut config);
    Layout::new(&config, &wanted())
}

#[test]
fn our_own_kernel() {
    let layout = layout(|config| {
        config.mappings.physical_memory = Some(Mapping::FixedAddress(WINDOW));
        config.kernel_stack_size = 64 * 1024 - 1;
    })
    .unwrap();
    assert_eq!(layout.physical_memory, Some(Span { start: WINDOW, len: 4 * GIB }));
    assert_eq!(layout.boot_info, Place::InPhysicalMemory(WINDOW));
    assert_eq!(layout.ramdisk, Place::InPhysicalMemory(WINDOW));
    assert_eq!(layout.stack.len, 64 * 1024);
    assert_eq!(layout.stack.start % 4096, 0);
}

#[test]
fn all_memory_is_mapped_if_there_is_more() {
    let mut config = BootloaderConfig::new_default();
    config.mappings.physical_memory = Some(Mapping::Dynamic);
    let layout = Layout::new(&config, &Wanted { memory_end: 600 * GIB + 4096, ..wanted() }).unwrap();
    assert_eq!(layout.physical_memory.unwrap().len, 600 * GIB + (2 << 20));
}

#[test]
fn without_physical_memory_everything_has_a_place_of_its_own() {
    let layout = layout(|_| {}).unwrap();
    assert_eq!(layout.physical_memory, None);
    assert!(matches!((layout.boot_info, layout.ramdisk), (Place::Own(a), Place::Own(b)) if a != b));
}

#[test]
fn fixed_addresses_are_kept() {
    let layout = layout(|config| {
        config.mappings.kernel_stack = Mapping::FixedAddress(0xf_0000_0000);
        config.mappings.boot_info = Mapping::FixedAddress(0x1000_0000_0000);
        config.mappings.ramdisk_memory = Mapping::FixedAddress(0x2000_0000_0000);
        config.mappings.kernel_base = Mapping::FixedAddress(KERNEL);
    })
    .unwrap();
    // The guard page comes first.
    assert_eq!(layout.stack.start, 0xf_0000_1000);
    assert_eq!(layout.boot_info, Place::Own(0x1000_0000_0000));
    assert_eq!(layout.ramdisk, Place::Own(0x2000_0000_0000));
}

#[test]
fn the_dynamic_range_is_kept() {
    let range = 0x2000_0000_0000..0x4000_0000_0000u64;
    let layout = layout(|config| {
        config.mappings.dynamic_range_start = Some(range.start);
        config.mappings.dynamic_range_end = Some(range.end);
        config.mappings.physical_memory = Some(Mapping::Dynamic);
    })
    .unwrap();
    assert!(range.contains(&layout.stack.start));
    assert!(range.contains(&layout.physical_memory.unwrap().start));
}

#[test]
fn each_fault_has_its_name() {
    use LayoutError::{NoRoom, OutOfRange, Overlap, StackSize, Unaligned, Unsupported};
    let fixed = |address| Mapping::FixedAddress(address);

    assert_eq!(layout(|c| c.kernel_stack_size = 0), Err(StackSize(0)));
    assert_eq!(layout(|c| c.kernel_stack_size = u64::MAX), Err(StackSize(u64::MAX)));
    assert_eq!(
        layout(|c| c.mappings.page_table_recursive = Some(Mapping::Dynamic)),
        Err(Unsupported("page_table_recursive"))
    );
    assert_eq!(layout(|c| c.mappings.aslr = true), Err(Unsupported("aslr")));
    assert!(matches!(layout(|c| c.mappings.kernel_base = fixed(0x1000)), Err(Unsupported(_))));
    assert_eq!(layout(|c| c.mappings.boot_info = fixed(0x1001)), Err(Unaligned { what: "boot info", address: 0x1001 }));
    assert_eq!(
        layout(|c| c.mappings.physical_memory = Some(fixed(WINDOW + 4096))),
        Err(Unaligned { what: "physical memory", address: WINDOW + 4096 })
    );
    let gap = 0x8000_0000_0000;
    assert_eq!(layout(|c| c.mappings.ramdisk_memory = fixed(gap)), Err(OutOfRange { what: "ramdisk", address: gap }));
    let straddling = gap - 0x1000;
    assert_eq!(
        layout(|c| c.mappings.boot_info = fixed(straddling)),
        Err(OutOfRange { what: "boot info", address: straddling })
    );
    let top = 0xffff_ffff_ffff_f000;
    assert_eq!(layout(|c| c.mappings.boot_info = fixed(top)), Err(OutOfRange { what: "boot info", address: top }));
    assert_eq!(
        layout(|c| c.mappings.boot_info = fixed(KERNEL + 0x1000)),
        Err(Overlap { what: "boot info", with: "kernel image" })
    );
    assert_eq!(
        layout(|c| c.mappings.physical_memory = Some(fixed(0))),
        Err(Overlap { what: "physical memory", with: "entry page" })
    );
    let no_room = layout(|c| {
        c.mappings.dynamic_range_start = Some(0x2000_0000_0000);
        c.mappings.dynamic_range_end = Some(0x2000_0000_1000);
    });
    assert!(matches!(no_room, Err(NoRoom(_))));
}

fn mappings() -> impl Strategy<Value = Mapping> {
    let interesting =
        prop_oneof![any::<u64>(), (0..64u64).prop_map(|n| KERNEL + n * 0x8000), (0..1024u64).prop_map(|n| n << 38)];
    prop_oneof![Just(Mapping::Dynamic), interesting.prop_map(|address| Mapping::FixedAddress(address & !0xfff))]
}

proptest! {
    /// Whatever is asked for, what comes out does not overlap.
    #[test]
    fn nothing_overlaps(
        stack in mappings(), boot_info in mappings(), ramdisk in mappings(),
        memory in proptest::option::of(mappings()),
        ends in any::<[Option<u64>; 2]>(),
        stack_size in 1..0x10_0000u64, memory_end in 0..2048 * GIB,
    ) {
        let mut config = BootloaderConfig::new_default();
        config.kernel_stack_size = stack_size;
        config.mappings.kernel_stack = stack;
        config.mappings.boot_info = boot_info;
        config.mappings.ramdisk_memory = ramdisk;
        config.mappings.physical_memory = memory;
        config.mappings.dynamic_range_start = ends[0];
        config.mappings.dynamic_range_end = ends[1];
        let wanted = Wanted { memory_end, ..wanted() };
        let Ok(layout) = Layout::new(&config, &wanted) else { return Ok(()) };

        let mut spans = std::vec![wanted.image, wanted.switch];
        spans.push(Span { start: layout.stack.start - 4096, len: layout.stack.len + 4096 });
        spans.extend(layout.physical_memory);
        for (place, len) in [(layout.boot_info, 0x2000), (layout.ramdisk, 0x1000)] {
            if let Place::Own(start) = place {
                spans.push(Span { start, len });
            }
        }
        spans.sort_by_key(|span| span.start);
        for pair in spans.windows(2) {
            prop_assert!(pair[0].start + pair[0].len <= pair[1].start, "{:x?}", spans);
        }
    }
}
