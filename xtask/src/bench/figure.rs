//! A figure: one thing that was measured, and what it has to keep to.

use serde::Serialize;

use crate::machine::Board;

/// What a figure of counted instructions must not exceed. Linux 7.2 needs 1,599 for a pread of 4 KiB that hits,
/// 1,320 million from kexec to the first byte, and 223 (q35) or 160 (microvm) million to init.
const COUNTED: [(&str, Option<Board>, f64); 15] = [
    ("cache-hit", None, 640.0),
    ("ext2-write", None, 900.0),
    ("ext2-append", None, 3_000.0),
    ("cleancache-store", None, 800.0),
    ("cleancache-restore", None, 680.0),
    ("cleancache-store-x", None, 250.0),
    ("cleancache-restore-x", None, 150.0),
    ("cleancache-invalidate", None, 200.0),
    ("cleancache-miss", None, 120.0),
    ("cleancache-take-back", None, 250.0),
    ("cleancache-take-back-worst", None, 2_000.0),
    ("boot-to-prompt", Some(Board::Q35), 60_000_000.0),
    ("boot-to-prompt", Some(Board::Microvm), 30_000_000.0),
    ("first-byte", None, 40_000_000.0),
    ("first-byte-16M", None, 40_000_000.0),
];

/// The same for bytes: all that the kernel has for itself in a guest of 64 MiB (Linux: 18 MiB), a frame, a cached page, a page that is handed
/// over, in a file in one piece and in one of which no two lie together (0.02 and 0.4 % of a page).
const MEMORY: [(&str, f64); 5] = [
    ("whole-own-use", (3 << 20) as f64),
    ("frame-record", 32.0),
    ("cached-page", 16.0),
    ("handed-over-page", 0.8192),
    ("handed-over-page-scattered", 16.384),
];

/// What kind of figure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Instructions for one operation, on one processor: repeats.
    Counted,
    /// Bytes of the kernel's own for each thing that it keeps: repeats.
    Memory,
    /// How many times as good as another kernel in the same run: the more the better.
    Versus,
    /// How many times as fast several processors are as one in the same run: likewise.
    Scaling,
}

impl Kind {
    /// Whether it is a ratio, of which more is better.
    pub fn is_ratio(self) -> bool {
        matches!(self, Kind::Versus | Kind::Scaling)
    }
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Its kind.
    pub kind: Kind,
    /// The board it was measured on.
    pub board: String,
    /// Its name; unlike any other on its board.
    pub name: String,
    /// What one operation, or one thing, costs; or the ratio.
    pub each: f64,
    /// What `each` must not be worse than.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// Medians of which it is a ratio, in microseconds or nanoseconds, or in pages from the disk; ours first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub medians: Option<[u64; 2]>,
}

impl Figure {
    fn new(kind: Kind, board: Board, name: &str, each: f64, limit: Option<f64>) -> Figure {
        Figure { kind, board: board.to_string(), name: name.to_owned(), each, limit, medians: None }
    }

    /// Instructions that were counted for so many operations.
    pub fn counted(board: Board, name: &str, instructions: u64, operations: u64) -> Figure {
        let limit = COUNTED.iter().find(|(of, on, _)| *of == name && on.is_none_or(|on| on == board));
        let each = instructions as f64 / operations.max(1) as f64;
        Figure::new(Kind::Counted, board, name, each, limit.map(|&(.., limit)| limit))
    }

    /// Bytes for so many things.
    pub fn memory(board: Board, name: &str, bytes: u64, things: u64) -> Figure {
        let limit = MEMORY.iter().find(|(of, _)| *of == name).map(|&(_, limit)| limit);
        Figure::new(Kind::Memory, board, name, bytes as f64 / things.max(1) as f64, limit)
    }

    /// Two medians, which should have at least such a ratio, if one is given.
    pub fn ratio(kind: Kind, board: Board, name: &str, ours: u64, theirs: u64, least: Option<f64>) -> Figure {
        let figure = Figure::new(kind, board, name, theirs as f64 / ours as f64, least);
        Figure { medians: Some([ours, theirs]), ..figure }
    }

    /// Whether it keeps to its limit.
    pub fn keeps(&self) -> bool {
        self.limit.is_none_or(|limit| if self.kind.is_ratio() { self.each >= limit } else { self.each <= limit })
    }
}
