//! The session in a document, as steps: what is shown there must be what happens.
//!
//! It is the first block fenced by ```` ```console ````. Lines that begin with the shell's prompt
//! are commands, and the lines below each are its output and error output, with gaps as the
//! `pattern` module has them. Lines above the first prompt and lines that begin with `$ ` are for
//! people only.

use anyhow::{Context, Result};

/// How the shell's prompt begins and ends for a person; the directory is in between.
const PROMPT: (&str, &str) = ("holdover:", "# ");

/// A command, and what has to come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// What is typed.
    pub command: String,
    /// Patterns for the lines that follow.
    pub answer: Vec<String>,
}

/// Finds the session in a document.
pub fn parse(document: &str) -> Result<Vec<Exchange>> {
    let (_, rest) = document.split_once("```console\n").context("there is no block fenced by ```console")?;
    let (block, _) = rest.split_once("\n```").context("the fenced block has no end")?;
    let mut exchanges: Vec<Exchange> = Vec::new();
    for line in block.lines() {
        if let Some(command) = typed(line) {
            exchanges.push(Exchange { command: command.trim().to_owned(), answer: Vec::new() });
        } else if let Some(exchange) = exchanges.last_mut()
            && !line.starts_with("$ ")
        {
            exchange.answer.push(line.to_owned());
        }
    }
    Ok(exchanges)
}

/// What stands after the prompt, if the line has one.
fn typed(line: &str) -> Option<&str> {
    let (_, command) = line.strip_prefix(PROMPT.0)?.split_once(PROMPT.1)?;
    Some(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_answers_are_told_apart() {
        let document = "# Title\n```console\n$ cargo xtask run\nlog\nholdover:/# ls\na\nb N\n\
                        holdover:/# poweroff\n```\nmore\n";
        let exchanges = parse(document).unwrap();
        let expected = [("ls", vec!["a", "b N"]), ("poweroff", vec![])];
        let found: Vec<_> =
            exchanges.iter().map(|e| (&*e.command, e.answer.iter().map(|line| &**line).collect())).collect();
        assert_eq!(found, expected);
        assert!(parse("nothing here").is_err());
    }
}
