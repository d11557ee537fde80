//! Every stack of the kernel, and the hole beneath it.
//!
//! The boot stage made the kernel stack, with an unmapped page under it. The stacks here are for traps that must not
//! run on the stack they interrupted; they lie in `.bss`, each on top of a page that [`init`] takes out of the page
//! tables. Those of other processors lie in a region of their own, where nothing is mapped between them: a block for each processor,
//! in the order of their numbers. A page fault in one of those holes is a stack overflow and is reported as such; a backtrace
//! follows frame pointers only while they stay inside one of these ranges.

use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use frames::Memory;

use super::local;
use super::paging::{self, PagingError};

const PAGE: usize = 4096;
const _: () = assert!(TRAP_STACK.is_power_of_two() && ORDINARY_STACK.is_power_of_two());
/// Enough for a panic that formats its message in a build that is hardly optimised.
const TRAP_STACK: usize = 4 * PAGE;

/// A stack in `.bss` whose lowest page becomes the hole under it.
#[repr(C, align(4096))]
struct GuardedStack {
    guard: [u8; PAGE],
    stack: UnsafeCell<[u8; TRAP_STACK]>,
}

// SAFETY: the bytes are never touched from Rust code; the processor uses them as a stack, one trap at a time.
unsafe impl Sync for GuardedStack {}

impl GuardedStack {
    const fn new() -> Self {
        Self { guard: [0; PAGE], stack: UnsafeCell::new([0; TRAP_STACK]) }
    }

    fn range(&self) -> Range<u64> {
        let bottom = self.stack.get() as u64;
        bottom..bottom + TRAP_STACK as u64
    }
}

/// Traps that get a stack of their own, in the order of the interrupt stack table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrapStack {
    /// Page faults, because the fault may be the interrupted stack's overflow.
    PageFault = 0,
    /// Double faults, because whatever failed first may have been a stack.
    DoubleFault = 1,
    /// NMI and machine check, because they come at any instruction.
    Urgent = 2,
}

const NAMES: [&str; 3] = ["page-fault stack", "double-fault stack", "NMI stack"];
const KERNEL_STACK: &str = "kernel stack";

/// Stacks of the processor with number 1, which all others follow. Nothing is mapped here but what [`make`] maps, and what the boot
/// stage places on its own ends long before.
const OTHERS: u64 = paging::WINDOW_END + (1 << 38);
/// What a stack for ordinary code has on processors whose stack is made here: as much as the boot stage is asked for.
pub const ORDINARY_STACK: u64 = 64 * 1024;
/// A hole and a stack for ordinary code, then a hole and a stack for each trap.
const BLOCK: u64 = PAGE as u64 + ORDINARY_STACK + 3 * (PAGE + TRAP_STACK) as u64;

/// How many blocks are mapped.
static MADE: AtomicU64 = AtomicU64::new(0);

/// The stacks of another processor: where each begins, that is its upper end.
#[derive(Clone, Copy, Debug)]
pub struct Tops {
    /// For ordinary code.
    pub ordinary: u64,
    /// For traps, in the order of the interrupt stack table.
    pub traps: [u64; 3],
}

/// The stacks of block `index`, the one for ordinary code first.
fn block(index: u64) -> [Range<u64>; 4] {
    let base = OTHERS + index * BLOCK;
    let trap = |which: u64| {
        let start = base + PAGE as u64 + ORDINARY_STACK + which * (PAGE + TRAP_STACK) as u64 + PAGE as u64;
        start..start + TRAP_STACK as u64
    };
    [base + PAGE as u64..base + PAGE as u64 + ORDINARY_STACK, trap(0), trap(1), trap(2)]
}

/// Frames that the stacks of other processors take.
pub fn frames() -> u64 {
    let pages = |stack: Range<u64>| (stack.end - stack.start) / PAGE as u64;
    MADE.load(Ordering::Acquire) * block(0).map(pages).iter().sum::<u64>()
}

/// An address where nothing is mapped.
pub fn unused() -> u64 {
    OTHERS + (local::MOST as u64) * BLOCK
}

/// Makes the stacks of one more processor than before. Called by the boot processor only.
///
/// # Errors
/// [`PagingError::NoMemory`]; what was mapped until then stays.
pub fn make(memory: &'static Memory) -> Result<Tops, PagingError> {
    let index = MADE.load(Ordering::Relaxed);
    let stacks = block(index);
    for stack in &stacks {
        let pages = (stack.end - stack.start) / PAGE as u64;
        paging::map_stack(memory, stack.start, pages.ilog2())?;
    }
    MADE.store(index + 1, Ordering::Release);
    let [ordinary, traps @ ..] = stacks.map(|stack| stack.end);
    Ok(Tops { ordinary, traps })
}
static TRAP_STACKS: [GuardedStack; 3] = [const { GuardedStack::new() }; 3];

/// Bottom and top of the kernel stack, as the boot stage gave them.
static KERNEL_BOTTOM: AtomicU64 = AtomicU64::new(0);
static KERNEL_TOP: AtomicU64 = AtomicU64::new(0);

impl TrapStack {
    /// All of them.
    pub const ALL: [TrapStack; 3] = [Self::PageFault, Self::DoubleFault, Self::Urgent];

    /// Where the processor starts pushing.
    pub fn top(self) -> u64 {
        TRAP_STACKS[self as usize].range().end
    }
}

/// Notes where the boot stage put the stack we run on, and unmaps the page under each trap stack.
///
/// # Errors
/// If a page cannot be unmapped, because the boot stage mapped `.bss` in larger ones.
pub fn init(bottom: u64, len: u64) -> Result<(), PagingError> {
    KERNEL_BOTTOM.store(bottom, Ordering::Relaxed);
    KERNEL_TOP.store(bottom.saturating_add(len), Ordering::Relaxed);
    TRAP_STACKS.iter().try_for_each(|stack| paging::unmap_page(stack.guard.as_ptr() as u64))
}

/// Every stack, with its name and range.
fn all() -> impl Iterator<Item = (&'static str, Range<u64>)> {
    let kernel = KERNEL_BOTTOM.load(Ordering::Relaxed)..KERNEL_TOP.load(Ordering::Relaxed);
    let boot = core::iter::once((KERNEL_STACK, kernel))
        .chain(NAMES.into_iter().zip(TRAP_STACKS.iter().map(GuardedStack::range)));
    let [page_fault, double_fault, urgent] = NAMES;
    let others = (0..MADE.load(Ordering::Acquire)).map(block);
    boot.chain(others.flat_map(move |stacks| [KERNEL_STACK, page_fault, double_fault, urgent].into_iter().zip(stacks)))
}

/// The stack that holds `address`.
pub fn containing(address: u64) -> Option<Range<u64>> {
    all().map(|(_, range)| range).find(|range| range.contains(&address))
}

/// The name of the stack whose guard page holds `address`.
pub fn guarded_by(address: u64) -> Option<&'static str> {
    all()
        .find(|(_, range)| {
            let guard = range.start.saturating_sub(PAGE as u64)..range.start;
            guard.contains(&address)
        })
        .map(|(name, _)| name)
}
