//! Shared memory: what others write to it never reaches a reader.

mod common;

use common::{FILE_PAGES, Guest};
use donors::Donor;
use donors::ivshmem::{NAME, SharedMemory};
use frames::arena::Arena;

const FRAMES: usize = 256;

#[test]
fn what_others_wrote_to_is_a_miss_that_is_counted() {
    let (arena, run) = Arena::with_annex(512, FRAMES);
    let range = run.range();
    {
        let guest = Guest::new(&arena);
        let shared = SharedMemory::lend(guest.cleancache().clone(), run).unwrap();
        assert_eq!((shared.foreign(), guest.donated(NAME)), (FRAMES as u64, FRAMES as u64));
        let stats = || guest.cleancache().pool_stats().into_iter().find(|pool| pool.name == NAME).unwrap();
        // More than memory holds, so that the rest goes to the pool; `read` looks at every byte.
        (0..FILE_PAGES).for_each(|page| guest.read(page));
        guest.cache.reclaim(FILE_PAGES as usize);
        assert!(stats().cached > 100);
        for index in 0..range.count {
            arena.scribble(range.start.offset(index), 4095, |byte| byte ^ 1);
        }
        (0..FILE_PAGES).for_each(|page| guest.read(page));
        assert!(stats().damaged > 100, "{:?}", stats());
        assert_eq!(stats().hits, 0);
        guest.cache.reclaim(FILE_PAGES as usize);
        (0..FILE_PAGES).for_each(|page| guest.read(page));
        assert!(stats().hits > 0);
        // Nothing of it is ever memory of the guest's own.
        assert_eq!((shared.relieve(100), shared.relieve_at_once(100), shared.away()), (0, 0, 0));
    }
}
