//! A figure: one thing that was measured, and what it has to keep to.

use serde::Serialize;

use crate::machine::Board;

/// What a figure of counted instructions must not exceed. Linux 7.2 needs 1,599 for a pread of 4 KiB that hits,
/// 1,320 million from kexec to the first byte, and 223 (q35) or 160 (microvm) million to init.
const COUNTED: [(&str, Option<Board>, f64); 15] = [
    ("cache-hit", None, 900.0),
    ("ext2-write", None, 900.0),
    ("ext2-append", None, 3_000.0),
    ("cleancache-store", None, 800.0),
    ("cleancache-restore", None, 800.0),
    ("cleancache-store-x", None, 250.0),
    ("cleancache-restore-x", None, 250.0),
    ("cleancache-invalidate", None, 200.0),
    ("cleancache-miss", None, 120.0),
    ("cleancache-take-back", None, 250.0),
    ("cleancache-take-back-worst", None, 2_000.0),
    ("boot-to-prompt", Some(Board::Q35), 60_000_000.0),
    ("boot-to-prompt", Some(Board::Microvm), 30_000_000.0),
    ("first-byte", None, 40_000_000.0),
    ("first-byte-16M", None, 40_000_000.0),
];

/// What kind of figure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Instructions for one operation, on one processor: repeats.
    Counted,
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
    /// What one operation, or one thing, costs.
    pub each: f64,
    /// What `each` must not exceed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
}

impl Figure {
    /// Instructions that were counted for so many operations.
    pub fn counted(board: Board, name: &str, instructions: u64, operations: u64) -> Figure {
        let limit = COUNTED.iter().find(|(of, on, _)| *of == name && on.is_none_or(|on| on == board));
        Figure {
            kind: Kind::Counted,
            board: board.to_string(),
            name: name.to_owned(),
            each: instructions as f64 / operations.max(1) as f64,
            limit: limit.map(|&(.., limit)| limit),
        }
    }

    /// Whether it keeps to its limit.
    pub fn keeps(&self) -> bool {
        self.limit.is_none_or(|limit| self.each <= limit)
    }
}
