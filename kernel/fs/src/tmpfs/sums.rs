//! Checksums of the windows of one file: which there are, and what they are. Whether they are true is for `windows` to see to.
//!
//! A file of one window, as most are, needs no memory for its checksum. Others have a piece of some hundred bytes for each 16 MiB
//! in which there is a checksum, so that no file needs consecutive frames, and sparse ones pay for what they have.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::ops::Range;
use zerocopy::little_endian::U32;

/// Windows that a piece is for.
const PIECE: u32 = u64::BITS;

/// Checksums that are handed out at a time.
const RUN: usize = handover::SUMS_AT_ONCE;

/// The checksums of one file, by window.
#[derive(Default)]
pub(super) enum Sums {
    #[default]
    None,
    One {
        window: u32,
        sum: u32,
    },
    /// Pieces by the number of their first window, divided by [`PIECE`]. None is without a checksum.
    Many(BTreeMap<u32, Box<Piece>>),
}

/// Checksums of consecutive windows, the first of which is a multiple of [`PIECE`].
pub(super) struct Piece {
    /// A bit for each that there is.
    known: u64,
    sums: [u32; PIECE as usize],
}

impl Piece {
    const EMPTY: Self = Self { known: 0, sums: [0; PIECE as usize] };
}

/// The bits from `from` on, and before `to`; both at most [`PIECE`].
fn bits(from: u32, to: u32) -> u64 {
    let below = |bit: u32| 1_u64.checked_shl(bit).map_or(u64::MAX, |bit| bit - 1);
    below(to) & !below(from)
}

impl Sums {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::One { .. } => 1,
            Self::Many(pieces) => pieces.values().map(|piece| u64::from(piece.known.count_ones())).sum(),
        }
    }

    /// The checksum of a window.
    pub(super) fn get(&self, window: u32) -> Option<u32> {
        match self {
            Self::None => None,
            Self::One { window: one, sum } => (*one == window).then_some(*sum),
            Self::Many(pieces) => {
                let (piece, at) = (pieces.get(&(window / PIECE))?, window % PIECE);
                (piece.known >> at & 1 == 1).then(|| piece.sums[at as usize])
            }
        }
    }

    /// The first window from `window` on that has none.
    pub(super) fn next_unknown(&self, window: u32) -> u32 {
        let mut at = window;
        // Each turn ends, or goes to the next of the pieces that there are.
        loop {
            let unknown = match self {
                Self::None => return at,
                Self::One { window: one, .. } => return if *one == at { at.saturating_add(1) } else { at },
                Self::Many(pieces) => match pieces.get(&(at / PIECE)) {
                    None => return at,
                    Some(piece) => !piece.known & bits(at % PIECE, PIECE),
                },
            };
            if unknown != 0 {
                return at / PIECE * PIECE + unknown.trailing_zeros();
            }
            at = (at / PIECE + 1) * PIECE;
        }
    }

    /// Note the checksum of a window.
    pub(super) fn set(&mut self, window: u32, sum: u32) {
        match self {
            Self::None => *self = Self::One { window, sum },
            Self::One { window: one, sum: old } if *one == window => *old = sum,
            _ => self.set_run(window, &[sum.into()]),
        }
    }

    /// Note the checksums of consecutive windows.
    pub(super) fn set_run(&mut self, first: u32, mut sums: &[U32]) {
        if let (Self::None, [sum]) = (&*self, sums) {
            *self = Self::One { window: first, sum: sum.get() };
            return;
        }
        let pieces = self.pieces();
        let mut at = first;
        while !sums.is_empty() {
            let start = at % PIECE;
            let (now, later) = sums.split_at(sums.len().min((PIECE - start) as usize));
            let piece = pieces.entry(at / PIECE).or_insert_with(|| Box::new(Piece::EMPTY));
            for (place, sum) in piece.sums.iter_mut().skip(start as usize).zip(now) {
                *place = sum.get();
            }
            piece.known |= bits(start, start + now.len() as u32);
            (at, sums) = (at.saturating_add(now.len() as u32), later);
        }
    }

    /// The pieces, of which there may be none yet.
    fn pieces(&mut self) -> &mut BTreeMap<u32, Box<Piece>> {
        let one = match *self {
            Self::One { window, sum } => Some((window, sum)),
            Self::None | Self::Many(_) => None,
        };
        if !matches!(self, Self::Many(_)) {
            *self = Self::Many(BTreeMap::new());
        }
        let Self::Many(pieces) = self else { unreachable!("it has just been made that") };
        if let Some((window, sum)) = one {
            let mut piece = Piece::EMPTY;
            piece.known = 1 << (window % PIECE);
            piece.sums[(window % PIECE) as usize] = sum;
            pieces.insert(window / PIECE, Box::new(piece));
        }
        pieces
    }

    /// Forget the checksums of `windows`, as far as there are any.
    pub(super) fn forget(&mut self, windows: Range<u32>) {
        if windows.is_empty() {
            return;
        }
        match self {
            Self::None => {}
            Self::One { window, .. } if windows.contains(window) => *self = Self::None,
            Self::One { .. } => {}
            Self::Many(pieces) => {
                let (first, last) = (windows.start / PIECE, (windows.end - 1) / PIECE);
                let mut at = first;
                while at <= last
                    && let Some((&number, piece)) = pieces.range_mut(at..=last).next()
                {
                    let from = if number == first { windows.start % PIECE } else { 0 };
                    let to = if number == last { (windows.end - 1) % PIECE + 1 } else { PIECE };
                    piece.known &= !bits(from, to);
                    if piece.known == 0 {
                        pieces.remove(&number);
                    }
                    at = number + 1;
                }
                if pieces.is_empty() {
                    *self = Self::None;
                }
            }
        }
    }

    /// Hand out all checksums in order: of consecutive windows together, but not too many at once.
    pub(super) fn runs<E>(&self, mut out: impl FnMut(u32, &[u32]) -> Result<(), E>) -> Result<(), E> {
        let pieces = match self {
            Self::None => return Ok(()),
            Self::One { window, sum } => return out(*window, &[*sum]),
            Self::Many(pieces) => pieces,
        };
        let mut run = [0; RUN];
        let (mut first, mut len) = (0, 0);
        for (number, piece) in pieces {
            let mut end = 0;
            while let rest @ 1.. = piece.known & bits(end, PIECE) {
                let at = rest.trailing_zeros();
                end = at + (rest >> at).trailing_ones();
                let window = number * PIECE + at;
                let known = piece.sums.get(at as usize..end as usize).unwrap_or_default();
                if window != first + len as u32 || len + known.len() > RUN {
                    flush(first, &run, &mut len, &mut out)?;
                    first = window;
                }
                run[len..len + known.len()].copy_from_slice(known);
                len += known.len();
            }
        }
        flush(first, &run, &mut len, &mut out)
    }
}

/// Hand out what is in `run`, if anything is, and empty it.
fn flush<E>(
    first: u32,
    run: &[u32; RUN],
    len: &mut usize,
    out: &mut impl FnMut(u32, &[u32]) -> Result<(), E>,
) -> Result<(), E> {
    match core::mem::take(len) {
        0 => Ok(()),
        len => out(first, &run[..len]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// All checksums, one by one.
    fn listed(sums: &Sums) -> Vec<(u32, u32)> {
        let mut all = Vec::new();
        let mut runs = 0;
        let noted: Result<(), ()> = sums.runs(|first, run| {
            assert!(!run.is_empty() && run.len() <= RUN);
            runs += 1;
            all.extend((first..).zip(run.iter().copied()));
            Ok(())
        });
        assert_eq!(noted, Ok(()));
        assert!(all.is_sorted() && all.len() as u64 == sums.count());
        all
    }

    #[test]
    fn one_or_many_they_are_what_was_noted() {
        let mut state = 1_u64;
        let mut random = |below: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u32 % below
        };
        for round in 0..300 {
            let span = [3, 70, 1000][round % 3];
            let (mut sums, mut model) = (Sums::default(), BTreeMap::new());
            for _ in 0..40 {
                let (at, len) = (random(span), 1 + random(span / 2));
                match random(3) {
                    0 => {
                        sums.set(at, at ^ 7);
                        model.insert(at, at ^ 7);
                    }
                    1 => {
                        let run: Vec<U32> = (at..at + len).map(|window| (window ^ 9).into()).collect();
                        sums.set_run(at, &run);
                        model.extend((at..at + len).map(|window| (window, window ^ 9)));
                    }
                    _ => {
                        sums.forget(at..at + len);
                        model.retain(|window, _| !(at..at + len).contains(window));
                    }
                }
                assert_eq!(listed(&sums), model.clone().into_iter().collect::<Vec<_>>());
                assert_eq!(sums.is_empty(), model.is_empty());
                let at = random(span);
                assert_eq!(sums.get(at), model.get(&at).copied());
                assert_eq!(sums.next_unknown(at), (at..).find(|window| !model.contains_key(window)).unwrap_or(0));
            }
        }
    }

    #[test]
    fn the_last_window_that_there_can_be() {
        let last = u32::MAX / 64;
        let mut sums = Sums::default();
        sums.set_run(last - 1, &[1.into(), 2.into()]);
        assert_eq!((sums.get(last), sums.next_unknown(last - 1)), (Some(2), last + 1));
        sums.forget(0..last + 1);
        assert!(sums.is_empty());
    }
}
