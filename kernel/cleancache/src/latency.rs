//! How long take-backs took: a histogram with eight steps to each doubling, so that a percentile is right within an eighth.

use alloc::boxed::Box;

const STEPS: u32 = 8;
const BUCKETS: usize = ((u32::BITS - STEPS.ilog2() + 1) * STEPS) as usize;

/// Times of many operations, in units of the clock that they were taken with. A percentile of p says that p of a hundred took no
/// longer, within an eighth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// How many operations.
    pub count: u64,
    /// The median.
    pub p50: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The longest, exactly.
    pub max: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Box<[u32; BUCKETS]>,
    max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: Box::new([0; BUCKETS]), max: 0 }
    }

    #[inline]
    pub(crate) fn add(&mut self, time: u64) {
        self.max = self.max.max(time);
        if let Some(count) = self.counts.get_mut(bucket(time)) {
            *count = count.saturating_add(1);
        }
    }

    pub(crate) fn add_all(&mut self, others: &Self) {
        self.max = self.max.max(others.max);
        for (count, more) in self.counts.iter_mut().zip(others.counts.iter()) {
            *count = count.saturating_add(*more);
        }
    }

    pub(crate) fn summary(&self) -> Latency {
        let count: u64 = self.counts.iter().map(|&count| u64::from(count)).sum();
        let percentile = |p: u64| {
            let mut left = (count * p).div_ceil(100);
            let at = self.counts.iter().position(|&count| {
                left = left.saturating_sub(u64::from(count));
                left == 0
            });
            at.filter(|_| count > 0).map_or(0, |at| last_of(at).min(self.max))
        };
        Latency { count, p50: percentile(50), p90: percentile(90), p99: percentile(99), max: self.max }
    }
}

#[inline]
fn bucket(time: u64) -> usize {
    let time = u32::try_from(time).unwrap_or(u32::MAX);
    if time < STEPS {
        return time as usize;
    }
    let doubling = time.ilog2() - STEPS.ilog2();
    ((doubling + 1) * STEPS + (time >> doubling) - STEPS) as usize
}

/// The longest time that falls into a bucket.
fn last_of(bucket: usize) -> u64 {
    let (bucket, steps) = (bucket as u64, u64::from(STEPS));
    if bucket < steps {
        return bucket;
    }
    let doubling = bucket / steps - 1;
    ((bucket % steps + steps + 1) << doubling) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_falls_into_the_bucket_that_ends_no_earlier() {
        for time in (0..4000).chain([65_535, 65_536, 1 << 31, u64::from(u32::MAX)]) {
            let at = bucket(time);
            assert!(last_of(at) >= time && (at == 0 || last_of(at - 1) < time), "{time} in {at}");
            assert!(last_of(at) <= time + time / 8);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_the_times() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.summary(), Latency::default());
        (1..=100).for_each(|time| histogram.add(time));
        let Latency { count, p50, p90, p99, max } = histogram.summary();
        assert_eq!((count, max), (100, 100));
        assert!((50..=56).contains(&p50) && (90..=100).contains(&p90) && (99..=100).contains(&p99));
    }
}
