//! A vector in pieces of at most one frame. It grows without moving what is in it and without asking for consecutive frames, which
//! a full machine may not have; so it can grow while memory is short and locks are held.

use crate::addr::FRAME_SIZE;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The vector, in pieces of `N` entries, as [`piece`] says. Its spine takes eight bytes a piece.
#[derive(Debug)]
pub struct Chunks<T, const N: usize> {
    pieces: Vec<Box<[T; N]>>,
}

/// How many `T` make a piece: a power of two, and as many as a frame has room for.
pub const fn piece<T>() -> usize {
    let fit = FRAME_SIZE / if size_of::<T>() == 0 { 1 } else { size_of::<T>() };
    1 << (if fit == 0 { 1 } else { fit }).ilog2()
}

impl<T, const N: usize> Chunks<T, N> {
    /// An empty vector.
    pub const fn new() -> Self {
        Self { pieces: Vec::new() }
    }

    /// How many entries there are, a whole number of pieces.
    pub fn len(&self) -> usize {
        self.pieces.len() * N
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Make entry `at` exist; new entries are made by `fill`, from their places.
    pub fn grow(&mut self, at: usize, fill: impl Fn(usize) -> T) {
        while self.len() <= at {
            let first = self.len();
            let piece: Box<[T]> = (first..first + N).map(&fill).collect();
            let Ok(piece) = piece.try_into() else { break };
            self.pieces.push(piece);
        }
    }

    /// The entry at `at`.
    #[inline]
    pub fn get(&self, at: usize) -> Option<&T> {
        Some(&self.pieces.get(at / N)?[at % N])
    }

    /// The entry at `at`, to change.
    #[inline]
    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        Some(&mut self.pieces.get_mut(at / N)?[at % N])
    }

    /// The entries from `at` on that lie in one piece with it, to change.
    pub fn rest_mut(&mut self, at: usize) -> &mut [T] {
        self.pieces.get_mut(at / N).and_then(|piece| piece.get_mut(at % N..)).unwrap_or_default()
    }

    /// Every entry, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flat_map(|piece| piece.iter())
    }
}

impl<T, const N: usize> Default for Chunks<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stay_where_they_are() {
        let mut chunks: Chunks<[u64; 9], { piece::<[u64; 9]>() }> = Chunks::new();
        assert!(chunks.is_empty() && chunks.get(0).is_none());
        chunks.grow(0, |at| [at as u64; 9]);
        let first: *const _ = chunks.get(0).expect("just grown");
        chunks.grow(1000, |at| [at as u64; 9]);
        assert!(core::ptr::eq(first, chunks.get(0).expect("still there")));
        assert_eq!(chunks.get(1000), Some(&[1000; 9]));
        assert!(chunks.iter().enumerate().all(|(at, entry)| *entry == [at as u64; 9]));
        assert!(chunks.get(chunks.len()).is_none());
        let piece = piece::<[u64; 9]>();
        let rest: Vec<u64> = chunks.rest_mut(piece + piece - 3).iter().map(|entry| entry[0]).collect();
        assert_eq!(rest, [2, 1, 0].map(|before| (piece + piece - 1 - before) as u64));
        assert!(chunks.rest_mut(chunks.len()).is_empty());
    }

    #[test]
    fn a_piece_is_a_frame_at_most() {
        assert_eq!((piece::<u64>(), piece::<[u8; 33]>(), piece::<[u8; 5000]>()), (512, 64, 1));
    }
}
