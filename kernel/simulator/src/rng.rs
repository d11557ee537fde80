//! Numbers that look random and are the same in every run.

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
#[derive(Clone, Copy, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose numbers are those of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        (((self.next_u64() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// A number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Every number below `count` once.
    pub fn permutation(&mut self, count: u32) -> Vec<u32> {
        let mut all: Vec<u32> = (0..count).collect();
        for at in (1..all.len()).rev() {
            all.swap(at, self.below(at as u32 + 1) as usize);
        }
        all
    }
}

/// Ranks from 0, each as often as its Zipf weight 1 / (rank + 1)^alpha says.
#[derive(Clone, Debug)]
pub struct Zipf {
    /// The weights of all ranks up to here.
    cumulative: Vec<f64>,
}

impl Zipf {
    /// For `count` ranks, at least one.
    pub fn new(count: u32, alpha: f64) -> Self {
        let mut sum = 0.0;
        let weigh = |rank: u32| {
            sum += f64::from(rank).powf(-alpha);
            sum
        };
        Self { cumulative: (1..=count).map(weigh).collect() }
    }

    /// A rank.
    pub fn draw(&self, rng: &mut Rng) -> u32 {
        let all = self.cumulative.last().copied().unwrap_or(0.0);
        let at = rng.unit() * all;
        let rank = self.cumulative.partition_point(|&sum| sum <= at);
        rank.min(self.cumulative.len().saturating_sub(1)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_has_every_number_once() {
        let mut all = Rng::new(1).permutation(1000);
        assert_ne!(all[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..1000));
    }

    #[test]
    fn rank_one_comes_half_as_often_as_rank_zero() {
        let (zipf, mut rng, mut seen) = (Zipf::new(100, 1.0), Rng::new(2), [0u32; 100]);
        for _ in 0..100_000 {
            seen[zipf.draw(&mut rng) as usize] += 1;
        }
        // Weight of rank 0 among 100: 1 / H(100) = 0.1928.
        assert!((18_800..19_800).contains(&seen[0]), "{}", seen[0]);
        assert!((9_300..10_000).contains(&seen[1]), "{}", seen[1]);
    }
}
