//! Reclaim asks for no memory: from the choice of a page to its place in cleancache nothing allocates. Counted by an allocator that
//! counts.

mod machine;

use allocation_counter::measure;
use cache::DropWhat;
use cleancache::policy::BUILT_IN;
use cleancache::{Config, Kind};
use frames::Zones;
use machine::{Machine, machine_with, shared_machine};

#[test]
fn reclaim_does_not_allocate() {
    let evict = |what: &str, machine: Machine| {
        let file = machine.open(1);
        for _ in 0..3 {
            machine.read_all(file, 100);
            let seen = measure(|| {
                assert_eq!(machine.cache.reclaim(20), 20);
                assert_eq!(machine.cache.try_reclaim(20), 20);
                let frames = [(); 30].map(|()| machine.cache.allocate(Zones::Ephemeral).expect("memory"));
                drop(frames);
                let taken = machine.cache.cleancache().take_any(machine.pool, 7).expect("a pool");
                assert!(machine.cache.cleancache().donate_list(machine.pool, taken).is_ok());
                assert!(machine.cache.drop_caches(DropWhat::Pages) > 0);
            });
            assert_eq!(seen.count_total, 0, "{what}: {} bytes", seen.bytes_total);
        }
        assert!(machine.pool().stores > 200 && machine.pool().evictions > 100, "{what}: {:?}", machine.pool());
        machine.check_frames();
    };
    for &(name, policy) in BUILT_IN {
        for exclusive in [true, false] {
            let config = || Config { policy, exclusive, ..Config::default() };
            evict(name, machine_with(220, 40, config(), Kind::Fixed).0);
            evict(name, machine_with(220, 40, config(), Kind::Exchangeable).0);
            evict(name, shared_machine(220, 40, config()).0);
        }
    }
}
