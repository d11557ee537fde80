//! What crate `virtio-drivers` wants from a kernel: memory for queues, and the physical addresses of buffers.
//!
//! A guest's physical addresses are what its devices use, so nothing is copied and nothing has to be undone.

use core::ptr::NonNull;

use frames::{FRAME_SIZE, FrameRun, Memory, Pfn, PfnRange, PhysAddr, Zones};
use spin::Once;
use virtio_drivers::{BufferDirection, Hal};

use crate::arch::paging;

static MEMORY: Once<&'static Memory> = Once::new();

/// Tells the drivers where queues are allocated.
pub fn init(memory: &'static Memory) {
    MEMORY.call_once(|| memory);
}

/// The guest side of every virtio device.
#[derive(Debug)]
pub struct GuestHal;

// SAFETY: `dma_alloc` hands out zeroed frames that it took from their allocator, page-aligned and given up by every
// other owner; `mmio_phys_to_virt` gives addresses in the window, where nothing but device registers lies at a
// device's addresses.
unsafe impl Hal for GuestHal {
    /// Queues die with this kernel, after the devices were reset, so they may lie in the scratch area.
    fn dma_alloc(pages: usize, _: BufferDirection) -> (u64, NonNull<u8>) {
        let run = MEMORY.get().and_then(|memory| {
            let order = pages.checked_next_power_of_two()?.ilog2();
            let run = memory.allocate_run(Zones::Ephemeral, order)?;
            Some(if pages < run.len() { run.split_at(pages).0 } else { run })
        });
        // Address 0 is how this interface says that there is no memory.
        let Some(mut run) = run else { return (0, NonNull::dangling()) };
        run.bytes_mut().fill(0);
        let address = run.as_ptr();
        (run.into_range().start.addr().as_u64(), address)
    }

    unsafe fn dma_dealloc(physical: u64, _: NonNull<u8>, pages: usize) -> i32 {
        let range = PfnRange { start: PhysAddr::new(physical).pfn(), count: pages as u64 };
        if let Some(memory) = MEMORY.get() {
            // SAFETY: `dma_alloc` gave up exactly this range, and the caller promises that it is not used any more.
            drop(unsafe { FrameRun::from_range(memory, range) });
        }
        0
    }

    unsafe fn mmio_phys_to_virt(physical: u64, _: usize) -> NonNull<u8> {
        // Whoever makes a transport has checked that the device's addresses are in the window.
        paging::window(PhysAddr::new(physical))
            .and_then(|address| NonNull::new(address as *mut u8))
            .unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> u64 {
        // Buffers are checked before they are put into a queue; the device never gets to see an unmapped one.
        physical_of(buffer).map_or(u64::MAX, PhysAddr::as_u64)
    }

    unsafe fn unshare(_: u64, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// The physical address of a buffer, if all of it lies in consecutive physical memory. That is so for everything in the
/// window; for the kernel's stack and static data it depends on where the boot stage put them.
pub fn physical_of(buffer: NonNull<[u8]>) -> Option<PhysAddr> {
    let address = buffer.cast::<u8>().as_ptr().expose_provenance() as u64;
    let start = paging::physical(address)?;
    if !paging::in_window(address) {
        let end = address.checked_add(buffer.len() as u64)?;
        let mut page = Pfn::new(address / FRAME_SIZE as u64).offset(1).addr().as_u64();
        while page < end {
            if paging::physical(page)?.as_u64() != start.as_u64() + (page - address) {
                return None;
            }
            page += FRAME_SIZE as u64;
        }
    }
    Some(start)
}
