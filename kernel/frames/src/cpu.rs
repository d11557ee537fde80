//! Which processor this is: for what each has to itself.
//!
//! A number says where to look, not who may: a thread on the host, or whoever is interrupted in a guest, may find another at the
//! same place. So whatever lies there has a lock, or is an atomic.

use crate::lock::PROCESSORS;

/// The number of this processor, below [`PROCESSORS`]. It lies where GS leads to; the kernel sees to that before the first lock is
/// taken.
#[cfg(target_os = "none")]
#[inline(always)]
pub fn number() -> usize {
    let number: u32;
    // SAFETY: GS leads to a number for as long as Rust code runs; it is read, and nothing else happens.
    unsafe { core::arch::asm!("mov {:e}, gs:[0]", out(reg) number, options(nostack, preserves_flags, readonly)) };
    number as usize % PROCESSORS
}

/// The number of this thread, below [`PROCESSORS`]: they are handed out in turn.
#[cfg(all(not(target_os = "none"), not(feature = "shuttle")))]
#[inline]
pub fn number() -> usize {
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    static NEXT: AtomicUsize = AtomicUsize::new(0);
    std::thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Relaxed) % PROCESSORS;
    }
    NUMBER.with(|number| *number)
}

/// The number of the scheduler's thread, the same whenever a schedule is repeated.
#[cfg(feature = "shuttle")]
pub fn number() -> usize {
    shuttle::current::get_current_task().map_or(0, |task| usize::from(task) % PROCESSORS)
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_thread_keeps_its_number_and_the_next_has_another() {
        let here = number();
        let there = thread::spawn(|| (number(), number())).join().expect("it does not panic");
        assert_eq!((number(), there.0), (here, there.1));
        assert!(there.0 != here && there.0 < PROCESSORS);
    }
}
