//! Mutual exclusion and what belongs to a thread, from one of two hands.
//!
//! The kernel spins. With the feature `shuttle`, which tests of interleavings have, every lock is a scheduler's that goes on with
//! another thread wherever one could have been waiting, at random and repeatable by a seed. Everything that is locked here or
//! above is locked through this file, so such a test meets the real code.

#[cfg(not(feature = "shuttle"))]
pub(crate) use spin::{Mutex, MutexGuard};

#[cfg(feature = "shuttle")]
pub(crate) use shuttled::{Mutex, MutexGuard};

/// Take a lock. Where somebody else has it, `waited` is told how many looks it took until it was open.
#[cfg(not(feature = "shuttle"))]
#[inline(always)]
pub(crate) fn lock<T>(mutex: &Mutex<T>, waited: impl FnOnce(u64)) -> MutexGuard<'_, T> {
    mutex.try_lock().unwrap_or_else(|| wait(mutex, waited))
}

#[cfg(not(feature = "shuttle"))]
#[cold]
#[inline(never)]
fn wait<T>(mutex: &Mutex<T>, waited: impl FnOnce(u64)) -> MutexGuard<'_, T> {
    let mut turns = 0;
    loop {
        // Only looking leaves the line to whoever has the lock.
        while mutex.is_locked() {
            turns += 1;
            core::hint::spin_loop();
        }
        if let Some(guard) = mutex.try_lock() {
            waited(turns);
            return guard;
        }
    }
}

/// Take a lock. The scheduler waits, and nobody looks meanwhile.
#[cfg(feature = "shuttle")]
pub(crate) fn lock<T>(mutex: &Mutex<T>, _: impl FnOnce(u64)) -> MutexGuard<'_, T> {
    mutex.lock()
}

/// `std::thread_local!`, or what is its like for threads that share one.
#[cfg(all(not(target_os = "none"), not(feature = "shuttle")))]
#[cfg_attr(not(debug_assertions), expect(unused_imports, reason = "for the checker of a debug build"))]
pub(crate) use std::thread_local;

#[cfg(feature = "shuttle")]
#[cfg_attr(not(debug_assertions), expect(unused_imports, reason = "for the checker of a debug build"))]
pub(crate) use shuttle::thread_local;

/// Here another processor may see a record that is half changed, since no lock is common to both. It costs nothing but in a test
/// of interleavings, where another thread gets its chance.
#[inline(always)]
pub(crate) fn window() {
    // Any access to something shared is a place to go on with another thread.
    #[cfg(feature = "shuttle")]
    shuttle::sync::atomic::AtomicBool::new(false).load(core::sync::atomic::Ordering::SeqCst);
}

/// The scheduler's lock with the face of the one that spins.
#[cfg(feature = "shuttle")]
mod shuttled {
    use shuttle::sync::{self, TryLockError};
    use std::sync::PoisonError;

    pub(crate) use shuttle::sync::MutexGuard;

    #[derive(Debug)]
    pub(crate) struct Mutex<T>(sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            // A thread that panicked has ended the test already.
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            match self.0.try_lock() {
                Ok(guard) => Some(guard),
                Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            }
        }

        pub(crate) fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
