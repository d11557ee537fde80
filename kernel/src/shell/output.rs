//! Where a command's output goes: the serial line, or a file.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use fs::vfs::File;
use prompt::words::Redirect;

use super::failure::At;
use super::files::write_all;
use super::{Failure, Outcome, Session};
use crate::console::{self, Mode};

/// Bytes collected before they are sent or written.
const BUFFER: usize = 4096;

/// A command's output. Nothing here fails at once: the first failure is kept for [`Output::close`], and everything after it is
/// thrown away.
pub struct Output {
    target: Target,
    buffer: Vec<u8>,
    failure: Option<Failure>,
}

enum Target {
    Console,
    File { file: File, path: Vec<u8>, position: u64 },
}

impl Output {
    /// Output to the serial line. Whole lines are sent as they come.
    pub fn console() -> Self {
        Self { target: Target::Console, buffer: Vec::new(), failure: None }
    }

    /// Output to the file that a redirection names.
    pub fn file(session: &Session<'_>, redirect: &Redirect) -> Outcome<Self> {
        let path = redirect.path.clone();
        let file = session.create(&path, 0o644, !redirect.append)?;
        let position = file.stat().at(&path)?.size;
        Ok(Self { target: Target::File { file, path, position }, buffer: Vec::new(), failure: None })
    }

    /// Formatted output, such as `format_args!("{size}\n")`.
    pub fn print(&mut self, text: fmt::Arguments<'_>) {
        // Writing to an `Output` never fails; a `Display` that does has said what it could.
        let _ = self.write_fmt(text);
        self.send_lines();
    }

    /// A line or more with names in them, newline included. For people the control characters in it are shown as `?`, as `ls` does,
    /// because a name may hold what would spoil the terminal.
    pub fn line(&mut self, line: &[u8]) {
        match self.target {
            Target::Console if console::mode() == Mode::Plain => {
                let shown = line.iter().map(|&byte| if byte.is_ascii_control() && byte != b'\n' { b'?' } else { byte });
                self.buffer.extend(shown);
            }
            _ => self.bytes(line),
        }
        self.send_lines();
    }

    /// Output of any bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush();
        }
        if bytes.len() > BUFFER {
            self.send(bytes);
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Whether something was written in vain, so that it makes no sense to go on.
    pub fn is_broken(&self) -> bool {
        self.failure.is_some()
    }

    /// Sends or writes what is collected.
    pub fn flush(&mut self) {
        let mut collected = core::mem::take(&mut self.buffer);
        self.send(&collected);
        collected.clear();
        self.buffer = collected;
    }

    /// Ends the output.
    ///
    /// # Errors
    /// What went wrong first, since the output was opened.
    pub fn close(mut self) -> Outcome {
        self.flush();
        self.failure.map_or(Ok(()), Err)
    }

    fn send_lines(&mut self) {
        if matches!(self.target, Target::Console) && self.buffer.contains(&b'\n') {
            self.flush();
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || self.failure.is_some() {
            return;
        }
        match &mut self.target {
            Target::Console => console::write(bytes),
            Target::File { file, path, position } => {
                self.failure = write_all(file, *position, bytes).at(path).err();
                *position = position.saturating_add(bytes.len() as u64);
            }
        }
    }
}

impl Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}
