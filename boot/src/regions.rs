//! The memory map that the kernel gets in its `BootInfo`.

use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use bootproto::Span;
use bootproto::memmap::{MAX_RANGES, MemoryMap, MemoryType};

/// The most regions that a map becomes: what the boot stage keeps cuts one range into three.
pub const MAX_REGIONS: usize = MAX_RANGES + 2;

/// Writes the map's ranges into `out`, ascending, `used` as [`MemoryRegionKind::Bootloader`]. Returns how many they are,
/// or `None` if `out` is too short; [`MAX_REGIONS`] are always enough.
///
/// `used` lies in one range of memory. The way back is to take `Usable` and `Bootloader` for memory and to normalise.
pub fn write(map: &MemoryMap, used: Span, out: &mut [MemoryRegion]) -> Option<usize> {
    let mut count = 0;
    let mut push = |start: u64, end: u64, kind: MemoryRegionKind| {
        if start < end {
            *out.get_mut(count)? = MemoryRegion { start, end, kind };
            count += 1;
        }
        Some(())
    };
    for range in map.ranges() {
        match range.kind {
            MemoryType::RAM => {
                let used_start = used.start.clamp(range.start, range.end);
                let used_end = used.end()?.clamp(range.start, range.end);
                push(range.start, used_start, MemoryRegionKind::Usable)?;
                push(used_start, used_end, MemoryRegionKind::Bootloader)?;
                push(used_start.max(used_end), range.end, MemoryRegionKind::Usable)?;
            }
            MemoryType(other) => push(range.start, range.end, MemoryRegionKind::UnknownBios(other))?,
        }
    }
    Some(count)
}
