//! Completion of the word before the cursor: names of commands in the first place, paths everywhere else.

use alloc::vec::Vec;

use fs::filesystem::FileType;
use prompt::editor::Editor;
use prompt::words;

use super::{Session, commands};

/// Most candidates that are shown.
const MAX_SHOWN: usize = 100;

/// Completes as far as the candidates agree; where that is no further than the word was, shows them.
pub fn complete(editor: &mut Editor, session: &Session<'_>, screen: &mut Vec<u8>) {
    let Some(last) = words::last_word(editor.before_cursor()) else { return };
    let mut candidates = if last.is_command && !last.word.contains(&b'/') {
        command_names(&last.word)
    } else {
        paths(session, &last.word)
    };
    candidates.sort_unstable();
    let Some(common) = common_start(&candidates) else { return };
    // A complete name that cannot go on is followed by a space.
    let ends = candidates.len() == 1 && !common.ends_with(b"/");
    let mut text = words::quote(common);
    if ends {
        text.push(b' ');
    }
    if ends || common.len() > last.word.len() {
        editor.replace(last.start, &text, screen);
        return;
    }
    screen.push(b'\n');
    for candidate in candidates.iter().take(MAX_SHOWN) {
        let shown = candidate.strip_suffix(b"/").unwrap_or(candidate).rsplit(|byte| *byte == b'/').next();
        screen.extend_from_slice(shown.unwrap_or_default());
        screen.extend_from_slice(if candidate.ends_with(b"/") { b"/  " } else { b"  " });
    }
    if candidates.len() > MAX_SHOWN {
        screen.extend_from_slice(b"...");
    }
    screen.push(b'\n');
    editor.redraw(screen);
}

fn command_names(start: &[u8]) -> Vec<Vec<u8>> {
    commands::all().map(|command| command.name.as_bytes().to_vec()).filter(|name| name.starts_with(start)).collect()
}

/// Paths that begin as `word` does; directories end in `/`. Names that cannot be shown in a line are left out.
fn paths(session: &Session<'_>, word: &[u8]) -> Vec<Vec<u8>> {
    let cut = word.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (directory, start) = word.split_at(cut);
    let Ok(entries) = session.entries(if directory.is_empty() { b"." } else { directory }) else { return Vec::new() };
    let fitting = entries.into_iter().filter(|entry| {
        let name = &entry.name;
        let hidden = start.is_empty() && name.starts_with(b".");
        name.starts_with(start) && !hidden && !name.iter().any(u8::is_ascii_control)
    });
    fitting
        .map(|entry| {
            let slash: &[u8] = if entry.kind == FileType::Directory { b"/" } else { b"" };
            [directory, &entry.name, slash].concat()
        })
        .collect()
}

/// What all candidates begin with. They are sorted, so the first and the last tell.
fn common_start(candidates: &[Vec<u8>]) -> Option<&[u8]> {
    let (first, last) = (candidates.first()?, candidates.last()?);
    let mut common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    // Not in the middle of a character.
    while common < first.len() && first.get(common).is_some_and(|byte| byte & 0xc0 == 0x80) && common > 0 {
        common -= 1;
    }
    first.get(..common)
}
