//! Properties of the command language over lines that nobody would type.

use prompt::words::{last_word, parse, quote};
use proptest::prelude::*;

/// Bytes that mean something, more often than not.
fn line() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![prop::sample::select(b"'\"\\;#> \tab$|\n".to_vec()), any::<u8>()], 0..60)
}

proptest! {
    #[test]
    fn a_quoted_word_is_read_as_itself(words in prop::collection::vec(prop::collection::vec(1..=255u8, 0..20), 1..5)) {
        let line = words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(&b' ');
        let commands = parse(&line).expect("quoted words parse");
        prop_assert_eq!(commands.len(), 1);
        prop_assert_eq!(&commands[0].words, &words);
        prop_assert_eq!(&last_word(&line).expect("it ends in a word").word, words.last().expect("there is one"));
    }

    #[test]
    fn the_rest_of_a_line_is_the_rest_of_its_commands(line in line()) {
        let Ok(commands) = parse(&line) else { return Ok(()) };
        for (at, command) in commands.iter().enumerate() {
            let rest = parse(&line[command.rest..]).expect("the end of a good line is good");
            let words = |commands: &[prompt::words::Command]| commands.iter().map(|one| one.words.clone()).collect::<Vec<_>>();
            prop_assert_eq!(words(&rest), words(&commands[at + 1..]));
        }
    }

    #[test]
    fn the_last_word_can_be_replaced(line in line(), word in prop::collection::vec(1..=255u8, 1..10)) {
        let Some(last) = last_word(&line) else { return Ok(()) };
        let mut replaced = line[..last.start].to_vec();
        replaced.extend(quote(&word));
        let again = last_word(&replaced).expect("still a word");
        prop_assert_eq!((again.start, again.is_command, again.word), (last.start, last.is_command, word));
    }
}
