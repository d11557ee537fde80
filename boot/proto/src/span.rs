//! A run of physical bytes.

use core::fmt;

/// A run of physical memory, in bytes: `[start, start + len)`.
///
/// A span names memory and gives no access to it. It may come from outside, so its end need not fit in 64 bits; every
/// question about the end is asked through [`Span::end`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first byte.
    pub start: u64,
    /// The number of bytes.
    pub len: u64,
}

impl Span {
    /// The span from `start` up to but excluding `end`; empty if `end` is not above `start`.
    pub const fn between(start: u64, end: u64) -> Span {
        Span { start, len: end.saturating_sub(start) }
    }

    /// The first byte after the span, or `None` if that is beyond 64 bits.
    pub const fn end(self) -> Option<u64> {
        self.start.checked_add(self.len)
    }

    /// Whether the span has no bytes.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Whether every byte of `inner` is in this span.
    pub fn contains(self, inner: Span) -> bool {
        match (self.end(), inner.end()) {
            (Some(end), Some(inner_end)) => self.start <= inner.start && inner_end <= end,
            _ => false,
        }
    }

    /// Whether start and length are multiples of `align`.
    pub fn is_aligned_to(self, align: u64) -> bool {
        self.start.is_multiple_of(align) && self.len.is_multiple_of(align)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:#x}, {:#x})", self.start, self.start.saturating_add(self.len))
    }
}
