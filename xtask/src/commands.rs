//! Cutting the text after `--exec` into commands.

use std::fmt;

/// A quote that is never closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenQuote(char);

impl fmt::Display for OpenQuote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {} in the commands is never closed", self.0)
    }
}

impl std::error::Error for OpenQuote {}

/// Splits at every `;` and newline that is neither quoted nor behind a backslash. Quotes stay in
/// the commands, for the guest's shell to remove; commands of nothing but space fall away.
///
/// # Errors
/// [`OpenQuote`] if the text ends inside quotes.
pub fn split(text: &str) -> Result<Vec<String>, OpenQuote> {
    let mut commands = vec![String::new()];
    let mut quote = None;
    let mut escaped = false;
    for c in text.chars() {
        let ends = !escaped && quote.is_none() && matches!(c, ';' | '\n');
        if ends {
            commands.push(String::new());
            continue;
        }
        match quote {
            _ if escaped => {}
            Some(open) if open == c => quote = None,
            None if matches!(c, '"' | '\'') => quote = Some(c),
            _ => {}
        }
        escaped = c == '\\' && !escaped && quote != Some('\'');
        if let Some(command) = commands.last_mut() {
            command.push(c);
        }
    }
    if let Some(open) = quote {
        return Err(OpenQuote(open));
    }
    Ok(commands.iter().map(|command| command.trim().to_owned()).filter(|command| !command.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_end_at_semicolons_outside_quotes() {
        for (text, commands) in [
            ("", &[][..]),
            (" ; ;", &[]),
            ("ls -l; free", &["ls -l", "free"]),
            ("write 'a;b' c;ls", &["write 'a;b' c", "ls"]),
            (r#"write "a\";b" c;ls"#, &[r#"write "a\";b" c"#, "ls"]),
            (r"write a\;b c;ls", &[r"write a\;b c", "ls"]),
            ("write \"it's\";ls", &["write \"it's\"", "ls"]),
            ("ls\nfree\n", &["ls", "free"]),
        ] {
            assert_eq!(split(text).unwrap(), commands, "{text}");
        }
    }

    #[test]
    fn an_open_quote_is_an_error() {
        assert_eq!(split("write 'a"), Err(OpenQuote('\'')));
        assert_eq!(split("write \"a'"), Err(OpenQuote('"')));
    }
}
