//! File name patterns, for `find -name`: `*`, `?`, `[a-z]`, `[!a-z]`, backslash (POSIX 2.13, without character classes).

/// Whether the whole of `name` fits `pattern`.
///
/// At each `*` the match may come back once a byte of the name, and only to the latest `*`, so the cost is at most the product of
/// both lengths, whatever the pattern.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut rest, mut text) = (pattern, name);
    // Where to go on when the match fails: after the latest `*`, one byte further in the name.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', after @ ..] = rest {
            retry = Some((after, text));
            rest = after;
            continue;
        }
        let step = match (rest.is_empty(), text.split_first()) {
            (true, None) => return true,
            (false, Some((&byte, after))) => one(rest, byte).map(|rest| (rest, after)),
            _ => None,
        };
        match (step, retry) {
            (Some(next), _) => (rest, text) = next,
            (None, Some((pattern, [_, from @ ..]))) => {
                retry = Some((pattern, from));
                (rest, text) = (pattern, from);
            }
            (None, _) => return false,
        }
    }
}

/// What is left of `pattern` after its first element, if that element fits `byte`.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', set @ ..] => match bracket(set, byte) {
            Some((fits, rest)) => fits.then_some(rest),
            // Without a closing bracket the opening one stands for itself.
            None => (byte == b'[').then_some(set),
        },
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (byte == *literal).then_some(rest),
        [] => None,
    }
}

/// Whether `byte` is in the set that begins after `[`, and what follows the set; `None` if the set is not closed.
fn bracket(set: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, mut set) = match set {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, set),
    };
    let mut found = false;
    let mut first = true;
    loop {
        match set {
            // A `]` that comes first is a member.
            [b']', rest @ ..] if !first => return Some((found != negated, rest)),
            [low, b'-', high, rest @ ..] if *high != b']' => {
                found |= (*low..=*high).contains(&byte);
                set = rest;
            }
            [member, rest @ ..] => {
                found |= *member == byte;
                set = rest;
            }
            [] => return None,
        }
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name) in [
            ("", ""),
            ("*", ""),
            ("*", "abc"),
            ("*.rs", "main.rs"),
            ("a*b*c", "aXbYbZc"),
            ("?", "x"),
            ("[a-c]x", "bx"),
            ("[!a-c]", "d"),
            ("[]]", "]"),
            ("\\*", "*"),
            ("[x", "[x"),
            ("a[0-9]*", "a7"),
        ] {
            assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "a"),
            ("?", ""),
            ("*.rs", "main.rs~"),
            ("a*b", "ac"),
            ("[a-c]", "d"),
            ("[!a-c]", "a"),
            ("\\*", "a"),
            ("abc", "ab"),
        ] {
            assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn a_hostile_pattern_ends_soon() {
        let name = [b'a'; 255];
        let pattern: alloc::vec::Vec<u8> = b"*a".repeat(127).into_iter().chain(*b"b").collect();
        assert!(!matches(&pattern, &name));
    }
}
