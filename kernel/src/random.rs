//! Numbers without visible order, the same each time: for measurements and demonstrations, never for secrets.

/// xorshift64* (S. Vigna, An experimental exploration of Marsaglia's xorshift generators, scrambled, 2016).
#[derive(Clone, Copy, Debug)]
pub struct Xorshift(u64);

impl Xorshift {
    /// The sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next number, below `end`, which is above 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The high bits are the better ones; this takes them (Lemire, Fast random integer generation in an interval, 2019).
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }
}
