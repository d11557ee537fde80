//! Where lines come from: a person with a line editor, or a program that sends whole lines.

use alloc::vec::Vec;

use prompt::editor::{Action, Editor, MAX_LINE};
use prompt::keys::Decoder;

use super::{Session, complete};
use crate::arch::apic;
use crate::console::input::Woken;
use crate::console::{self, Mode, input};

/// What Control-C and Control-D send.
const CANCEL: u8 = 3;
const END_OF_INPUT: u8 = 4;

/// Columns of the working directory that the prompt shows.
const SHOWN_DIRECTORY: usize = 40;

/// What was typed.
pub enum Input {
    /// A line, without its end.
    Line(Vec<u8>),
    /// More than [`MAX_LINE`] bytes up to the end of the line; they are gone.
    TooLong,
    /// There will be no more.
    End,
}

/// The input side of the serial line.
#[derive(Debug, Default)]
pub struct Terminal {
    editor: Editor,
    decoder: Decoder,
    /// In tagged mode: the last byte was a carriage return, so a newline belongs to it.
    after_return: bool,
}

impl Terminal {
    /// Waits for the next line.
    pub fn read_line(&mut self, session: &Session<'_>) -> Input {
        match console::mode() {
            Mode::Plain => self.edit_line(session),
            Mode::Tagged => self.receive_line(session),
        }
    }

    fn edit_line(&mut self, session: &Session<'_>) -> Input {
        let prompt = prompt(&session.directory);
        let mut screen = Vec::new();
        self.editor.begin(&prompt, &mut screen);
        loop {
            console::write(&screen);
            screen.clear();
            let Some(key) = self.decoder.feed(next_byte(session)) else { continue };
            match self.editor.key(key, &mut screen) {
                None => {}
                Some(Action::Line(line)) => {
                    console::write(&screen);
                    return Input::Line(line);
                }
                Some(Action::End) => {
                    console::write(&screen);
                    return Input::End;
                }
                Some(Action::Cancelled) => {
                    cancelled();
                    self.editor.begin(&prompt, &mut screen);
                }
                Some(Action::Complete) => complete::complete(&mut self.editor, session, &mut screen),
            }
        }
    }

    /// A line as it is, without echo.
    fn receive_line(&mut self, session: &Session<'_>) -> Input {
        let mut line = Vec::new();
        let mut too_long = false;
        loop {
            let byte = next_byte(session);
            let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\r' | b'\n' if too_long => return Input::TooLong,
                b'\r' | b'\n' => return Input::Line(line),
                END_OF_INPUT if line.is_empty() => return Input::End,
                CANCEL => {
                    cancelled();
                    line.clear();
                }
                _ if line.len() == MAX_LINE => too_long = true,
                byte => line.push(byte),
            }
        }
    }
}

/// The next byte. Meanwhile the work ahead of a kexec goes on, changes are written behind, and donors that call are served: nothing is
/// held here, and nobody waits for anything else.
fn next_byte(session: &Session<'_>) -> u8 {
    let system = session.system;
    loop {
        if let Some(byte) = input::try_read() {
            return byte;
        }
        if system.generation.work_ahead(system) | system.write_behind() {
            system.serve_donors();
            continue;
        }
        if system.has_changes() {
            apic::set_alarm();
        }
        match input::wait() {
            Woken::Byte(byte) => return byte,
            Woken::Bell => system.serve_donors(),
            Woken::Alarm => {}
        }
    }
}

/// A Control-C that was typed at the prompt is not meant for the next command.
fn cancelled() {
    input::take_interruption();
}

/// `holdover:/path# `, a long path without its beginning.
fn prompt(directory: &[u8]) -> Vec<u8> {
    let mut prompt = b"holdover:".to_vec();
    match directory.len().checked_sub(SHOWN_DIRECTORY) {
        None | Some(0) => prompt.extend_from_slice(directory),
        Some(cut) => {
            prompt.extend_from_slice(b"...");
            let end = directory.get(cut..).unwrap_or_default();
            // The cut may go through a character, of which the rest would be shown as rubbish.
            prompt.extend(end.iter().skip_while(|byte| **byte & 0xc0 == 0x80));
        }
    }
    prompt.retain(|byte| *byte >= b' ' && *byte != 0x7f);
    prompt.extend_from_slice(b"# ");
    prompt
}
