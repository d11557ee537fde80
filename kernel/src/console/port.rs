//! Bytes on their way to the serial port: collected, so that the port is looked at once for many of them.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use super::Mode;
use crate::drivers::uart;

/// Whether the last byte sent left its line unfinished. Outside [`Port`], because a panic makes a port of its own.
static IN_LINE: AtomicBool = AtomicBool::new(false);

/// A buffer in front of the serial port. It never fails: a port that takes nothing loses the bytes.
#[derive(Debug)]
pub struct Port {
    buffer: [u8; 128],
    used: usize,
}

impl Port {
    /// An empty buffer.
    pub const fn new() -> Self {
        Self { buffer: [0; 128], used: 0 }
    }

    /// Takes bytes; for people a newline becomes carriage return and newline.
    pub fn write_bytes(&mut self, bytes: &[u8]) {
        if super::mode() == Mode::Tagged {
            bytes.iter().for_each(|&byte| self.push(byte));
            return;
        }
        for &byte in bytes {
            if byte == b'\n' {
                self.push(b'\r');
            }
            self.push(byte);
        }
    }

    /// Ends the line that is on the terminal, if one is unfinished.
    pub fn finish_line(&mut self) {
        self.flush();
        if IN_LINE.load(Ordering::Relaxed) {
            self.write_bytes(b"\n");
        }
    }

    /// Sends what is collected.
    pub fn flush(&mut self) {
        let collected = self.buffer.get(..self.used).unwrap_or_default();
        if let Some(&last) = collected.last() {
            uart::send(collected);
            IN_LINE.store(last != b'\n', Ordering::Relaxed);
            self.used = 0;
        }
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        if self.used == self.buffer.len() {
            self.flush();
        }
        if let Some(slot) = self.buffer.get_mut(self.used) {
            *slot = byte;
            self.used += 1;
        }
    }
}

impl fmt::Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write_bytes(text.as_bytes());
        Ok(())
    }
}
