//! The text that tells the kernel why a handover was not taken.

use bootproto::parcel::NOTICE_MAX;
use core::fmt::{self, Write};

/// Why a handover was not taken, for the kernel's log. What does not fit is cut off.
pub struct Notice {
    text: [u8; NOTICE_MAX],
    len: usize,
}

impl Default for Notice {
    fn default() -> Self {
        Notice { text: [0; NOTICE_MAX], len: 0 }
    }
}

impl Notice {
    /// Adds to the text.
    pub fn say(&mut self, text: fmt::Arguments<'_>) {
        // Full is the only error, and cut off is good enough.
        let _ = self.write_fmt(text);
    }

    /// What was said; empty if nothing.
    pub fn text(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or_default()
    }
}

impl Write for Notice {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.text.get_mut(self.len..).ok_or(fmt::Error)?;
        let len = room.len().min(text.len());
        let (to, from) = room.get_mut(..len).zip(text.as_bytes().get(..len)).ok_or(fmt::Error)?;
        to.copy_from_slice(from);
        self.len += len;
        Ok(())
    }
}
