//! A set of frames as a bitmap: one bit a frame, so it takes 32 KiB for each GiB of memory, whatever the fragmentation.

use crate::error::HandoverError;
use alloc::vec::Vec;
use core::ops::Range;
use frames::{Pfn, PfnRange};

/// A set of frames within a span that is fixed when it is made.
#[derive(Clone, Debug)]
pub(crate) struct FrameSet {
    span: PfnRange,
    words: Vec<u64>,
}

impl FrameSet {
    /// The empty set, for frames in `span`.
    pub(crate) fn new(span: PfnRange) -> Result<Self, HandoverError> {
        let words = usize::try_from(span.count.div_ceil(64)).map_err(|_| HandoverError::NoMemory)?;
        let mut set = Self { span, words: Vec::new() };
        set.words.try_reserve_exact(words).map_err(|_| HandoverError::NoMemory)?;
        set.words.resize(words, 0);
        Ok(set)
    }

    /// The span.
    pub(crate) fn span(&self) -> PfnRange {
        self.span
    }

    /// Put all of `range` in. If a frame of it is outside the span or in the set already, nothing changes and this is
    /// `false`.
    #[must_use]
    pub(crate) fn insert(&mut self, range: PfnRange) -> bool {
        let Some(bits) = self.bits(range) else { return false };
        if !self.all(&bits, |word, mask| word & mask == 0) {
            return false;
        }
        let Bits { first, last, between, edges } = bits;
        for (at, mask) in [first, last].into_iter().take(edges) {
            if let Some(word) = self.words.get_mut(at) {
                *word |= mask;
            }
        }
        self.words.get_mut(between).unwrap_or_default().fill(u64::MAX);
        true
    }

    /// Whether all of `range` is in it.
    pub(crate) fn covers(&self, range: PfnRange) -> bool {
        self.bits(range).is_some_and(|bits| self.all(&bits, |word, mask| word & mask == mask))
    }

    /// Whether some frame of `range` is in it.
    pub(crate) fn overlaps(&self, range: PfnRange) -> bool {
        let within = range.intersect(self.span);
        self.bits(within).is_some_and(|bits| !self.all(&bits, |word, mask| word & mask == 0))
    }

    /// Whether something holds for each word that the bits touch, given a mask of those bits.
    fn all(&self, bits: &Bits, holds: impl Fn(u64, u64) -> bool) -> bool {
        let Bits { first, last, ref between, edges } = *bits;
        let mut edges = [first, last].into_iter().take(edges);
        edges.all(|(at, mask)| self.words.get(at).is_some_and(|&word| holds(word, mask)))
            && self.words.get(between.clone()).is_some_and(|words| words.iter().all(|&word| holds(word, u64::MAX)))
    }

    /// The bits of `range`, if it lies within the span.
    fn bits(&self, range: PfnRange) -> Option<Bits> {
        let end = range.start.get().checked_add(range.count)?;
        let (low, high) = (self.span.start.get(), self.span.end().get());
        (low <= range.start.get() && end <= high).then(|| Bits::new(range.start.get() - low, end - low))
    }

    /// The set as ranges that neither touch nor overlap, in rising order.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = PfnRange> + '_ {
        runs(self.span, |at| self.words.get(at).copied())
    }

    /// What is in this set and not in the other, which has the same span, likewise.
    pub(crate) fn ranges_without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = PfnRange> + 'a {
        runs(self.span, |at| Some(self.words.get(at)? & !other.words.get(at)?))
    }
}

/// The bits of words, which are frames of `span`, as ranges.
fn runs(span: PfnRange, word: impl Fn(usize) -> Option<u64>) -> impl Iterator<Item = PfnRange> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let start = find(span, at, true, &word)?;
        let end = find(span, start, false, &word).unwrap_or(span.count);
        at = end;
        Some(PfnRange { start: span.start.offset(start), count: end - start })
    })
}

/// The first bit from `from` on that is `value`.
fn find(span: PfnRange, from: u64, value: bool, word: impl Fn(usize) -> Option<u64>) -> Option<u64> {
    let mut at = usize::try_from(from / 64).ok()?;
    let mut keep = u64::MAX << (from % 64);
    loop {
        let bits = word(at)?;
        let wanted = if value { bits } else { !bits } & keep;
        if wanted != 0 {
            let bit = at as u64 * 64 + u64::from(wanted.trailing_zeros());
            return (bit < span.count).then_some(bit);
        }
        at += 1;
        keep = u64::MAX;
    }
}

/// Consecutive bits, as the words that they touch: two of them in part, and whole ones between, which are many where files are
/// large, so that their number must cost little.
struct Bits {
    first: (usize, u64),
    last: (usize, u64),
    between: Range<usize>,
    /// How many of `first` and `last` there are.
    edges: usize,
}

impl Bits {
    /// The bits `from..to`.
    fn new(from: u64, to: u64) -> Self {
        let word = |bit: u64| (bit / 64) as usize;
        if from == to {
            return Self { first: (0, 0), last: (0, 0), between: 0..0, edges: 0 };
        }
        let (head, tail) = (u64::MAX << (from % 64), u64::MAX >> ((64 - to % 64) % 64));
        let (first, last) = (word(from), word(to - 1));
        match first == last {
            true => Self { first: (first, head & tail), last: (last, 0), between: 0..0, edges: 1 },
            false => Self { first: (first, head), last: (last, tail), between: first + 1..last, edges: 2 },
        }
    }
}

/// One frame as a range.
pub(crate) fn single(pfn: Pfn) -> PfnRange {
    PfnRange { start: pfn, count: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    fn range(start: u64, count: u64) -> PfnRange {
        PfnRange { start: Pfn::new(start), count }
    }

    #[test]
    fn the_edges_of_the_span_and_of_numbers_hold() {
        let mut set = FrameSet::new(range(100, 130)).unwrap();
        assert!(!set.insert(range(99, 1)));
        assert!(!set.insert(range(229, 2)));
        assert!(!set.insert(range(u64::MAX, 2)));
        assert!(!set.insert(range(150, u64::MAX)));
        assert!(set.insert(range(100, 130)));
        assert!(set.ranges().eq([range(100, 130)]));
    }

    proptest! {
        #[test]
        fn it_is_a_set(inserts in prop::collection::vec((0_u64..400, 0_u64..90), 0..30)) {
            let span = range(7, 333);
            let mut set = FrameSet::new(span).unwrap();
            let mut model = BTreeSet::new();
            for (start, count) in inserts {
                let mut all = start..start + count;
                let fits = all.clone().all(|pfn| span.contains(Pfn::new(pfn)) && !model.contains(&pfn));
                let fits = fits && (count > 0 || (7..=340).contains(&start));
                let inside = all.clone().all(|pfn| model.contains(&pfn)) && (count > 0 || (7..=340).contains(&start));
                prop_assert_eq!(set.covers(range(start, count)), inside);
                prop_assert_eq!(set.overlaps(range(start, count)), all.clone().any(|pfn| model.contains(&pfn)));
                prop_assert_eq!(set.insert(range(start, count)), fits);
                if fits {
                    model.extend(&mut all);
                }
            }
            let ranges: Vec<_> = set.ranges().collect();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end() < pair[1].start));
            let listed: BTreeSet<u64> = ranges.iter().flat_map(|r| r.start.get()..r.end().get()).collect();
            prop_assert_eq!(listed, model);
        }
    }
}
