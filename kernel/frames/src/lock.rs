//! Locks, and the order in which they may be taken. This is the one file that states the order.
//!
//! A lock has a [`Rank`]; while it is held only locks of a higher rank may be taken. A debug build checks that at every
//! `lock` and names both ranks when it is broken. How often and how long locks were waited for is [counted](waits). No lock is held across disk I/O, and interrupt handlers take none but the last.
//! Turning interrupts off keeps one processor's handlers away and nobody else; what several processors use is locked.

use crate::sync::{self, Mutex, MutexGuard};
use crate::waits;
use core::ops::{Deref, DerefMut};

/// The most processors that a guest may have.
pub const PROCESSORS: usize = 64;

/// The list of ranks, once for the type and once for those who go through all of them.
macro_rules! ranks {
    ($($(#[$about:meta])* $rank:ident,)*) => {
        /// The order of all locks: a lock may be taken while only locks that stand above it in this list are held.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Rank {
            $($(#[$about])* $rank,)*
        }

        impl Rank {
            /// All of them, in their order.
            pub(crate) const ALL: &[Self] = &[$(Self::$rank),*];
        }
    };
}

ranks! {
    /// The mount table.
    Mounts,
    /// What a donor has lent.
    Donation,
    /// The inodes of a tmpfs.
    Tmpfs,
    /// The content and attributes of one file of a tmpfs.
    TmpfsFile,
    /// The inode cache of an ext2.
    Ext2,
    /// Size, times and block pointers of one inode of an ext2.
    Ext2Inode,
    /// The metadata of an ext2 that is not on disk yet, and its free space.
    Ext2Metadata,
    /// Pages of files: index, order, states.
    PageCache,
    /// Which pools, filesystems and files a cleancache has.
    CleancacheNames,
    /// Entries and pools of donated frames, in a shard of a cleancache.
    Cleancache,
    /// What a mounted disk is told by.
    Identity,
    /// A disk as a whole: its registers.
    Device,
    /// A queue of a disk.
    Disk,
    /// Ranges of frames that are set aside; their list grows on the heap.
    SetAside,
    /// The slabs of the kernel heap.
    Heap,
    /// The page tables of the kernel.
    PageTables,
    /// The free frames that one processor has at hand.
    Stash,
    /// The free lists of one zone.
    Frames,
    /// The serial line and the log.
    Console,
    /// Work that is lent to all processors.
    Work,
    /// What one processor wants another to run. An interrupt handler takes this lock, so it is held with interrupts off.
    Call,
}

/// A spin lock with a rank.
#[derive(Debug)]
pub struct Lock<T> {
    rank: Rank,
    inner: Mutex<T>,
}

impl<T> Lock<T> {
    /// An open lock around `value`.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self { rank, inner: Mutex::new(value) }
    }

    /// Wait for the lock and take it.
    ///
    /// # Panics
    /// In a debug build, when a lock of the same or a higher rank is held already.
    pub fn lock(&self) -> LockGuard<'_, T> {
        order::enter(self.rank);
        LockGuard { rank: self.rank, inner: sync::lock(&self.inner, |turns| waits::note(self.rank, turns)) }
    }

    /// Take the lock if it is open. This never waits, so it cannot dead-lock and needs no order.
    pub fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        let inner = self.inner.try_lock()?;
        order::note(self.rank);
        Some(LockGuard { rank: self.rank, inner })
    }

    /// The value, which a unique reference proves that nobody else has.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

/// Access to what a [`Lock`] holds; dropping it opens the lock.
#[derive(Debug)]
pub struct LockGuard<'a, T> {
    rank: Rank,
    inner: MutexGuard<'a, T>,
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> Drop for LockGuard<'_, T> {
    fn drop(&mut self) {
        order::leave(self.rank);
    }
}

/// The checker: one bit for each rank that is held here and now, that is by this processor. A guard is dropped by the processor that
/// took the lock: none is sent to another.
#[cfg(debug_assertions)]
mod order {
    use super::Rank;

    #[cfg(target_os = "none")]
    mod held {
        use core::arch::asm;
        use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

        use crate::lock::PROCESSORS;

        static HELD: [AtomicU32; PROCESSORS] = [const { AtomicU32::new(0) }; PROCESSORS];

        /// What this processor holds. Its number lies where its GS leads to; the kernel sees to that before the first lock.
        fn here() -> &'static AtomicU32 {
            let number: u32;
            // SAFETY: reads the number, and nothing else happens.
            unsafe { asm!("mov {:e}, gs:[0]", out(reg) number, options(nostack, preserves_flags, readonly)) };
            &HELD[number as usize % PROCESSORS]
        }

        pub fn get() -> u32 {
            here().load(Relaxed)
        }

        pub fn set(bits: u32) {
            here().store(bits, Relaxed);
        }
    }

    #[cfg(not(target_os = "none"))]
    mod held {
        use core::cell::Cell;

        crate::sync::thread_local! {
            static HELD: Cell<u32> = const { Cell::new(0) };
        }

        pub fn get() -> u32 {
            HELD.with(Cell::get)
        }

        pub fn set(bits: u32) {
            HELD.with(|held| held.set(bits));
        }
    }

    fn bit(rank: Rank) -> u32 {
        1 << rank as u8
    }

    pub fn enter(rank: Rank) {
        let above = held::get() & !(bit(rank) - 1);
        assert!(above == 0, "lock order: {rank:?} taken while held (bits by rank): {above:#b}");
        note(rank);
    }

    pub fn note(rank: Rank) {
        held::set(held::get() | bit(rank));
    }

    pub fn leave(rank: Rank) {
        held::set(held::get() & !bit(rank));
    }
}

#[cfg(not(debug_assertions))]
mod order {
    use super::Rank;

    #[inline(always)]
    pub fn enter(_: Rank) {}

    #[inline(always)]
    pub fn note(_: Rank) {}

    #[inline(always)]
    pub fn leave(_: Rank) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_nest_in_the_order_of_ranks() {
        let outer = Lock::new(Rank::PageCache, 1);
        let inner = Lock::new(Rank::Frames, 2);
        let held = outer.lock();
        assert_eq!(*held + *inner.lock(), 3);
    }

    #[test]
    #[should_panic(expected = "lock order: PageCache")]
    #[cfg(debug_assertions)]
    fn the_wrong_order_is_caught() {
        let outer = Lock::new(Rank::Frames, ());
        let inner = Lock::new(Rank::PageCache, ());
        let _held = outer.lock();
        let _ = inner.lock();
    }
}
