//! What is emitted is what is parsed, for every input; and no input at all upsets the parser.

use proptest::collection::vec;
use proptest::prelude::*;
use protocol::parse::{Line, parse_line};
use protocol::{Level, emit};

/// Strings with more than their share of what needs escaping.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        r#"[a-z :=@|\[\]"\\\n\r\x00é\u{2028}]{0,40}"#.prop_map(String::from),
        r"[a-z0-9.:/+%,_-]{1,20}".prop_map(String::from),
    ]
}

fn level() -> impl Strategy<Value = Level> {
    proptest::sample::select(Level::ALL.to_vec())
}

/// Checks that `sent` is one line and only printable, and gives it back without its ending.
fn one_line(sent: &str) -> &[u8] {
    let line = sent.strip_suffix('\n').expect("ends in a newline");
    assert!(!line.contains(|c: char| c.is_ascii_control()), "control character in {line:?}");
    line.as_bytes()
}

/// Puts a command's output together again, as the host does.
fn reassemble(sent: &str) -> Vec<u8> {
    let mut output = Vec::new();
    for line in sent.split_inclusive('\n') {
        match parse_line(one_line(line)).expect("own output parses") {
            Line::Output(text) => {
                output.extend(text.bytes());
                output.push(b'\n');
            }
            Line::Piece(text) => output.extend(text.bytes()),
            Line::Log(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    output
}

proptest! {
    #[test]
    fn output_arrives_byte_for_byte(
        writes in vec((vec(any::<u8>(), 0..700), any::<bool>(), any::<bool>()), 0..6),
    ) {
        let (mut port, mut expected) = (String::new(), Vec::new());
        let mut output = emit::Output::new();
        for (bytes, flush, log) in &writes {
            output.write(&mut port, bytes).unwrap();
            if *flush {
                output.flush(&mut port).unwrap();
            }
            if *log {
                emit::log_line(&mut port, 1, Level::Info, "t", format_args!("between")).unwrap();
            }
            expected.extend(bytes);
        }
        output.flush(&mut port).unwrap();
        prop_assert_eq!(reassemble(&port), expected);
    }

    #[test]
    fn finished_lines_of_text_are_sent_as_such(lines in vec("[ -~é]{0,100}", 0..5)) {
        let mut port = String::new();
        let mut output = emit::Output::new();
        for line in &lines {
            output.write(&mut port, line.as_bytes()).unwrap();
            output.write(&mut port, b"\n").unwrap();
        }
        let expected: String = lines
            .iter()
            .map(|line| format!("|{}\n", line.replace('\\', "\\\\")))
            .collect();
        prop_assert_eq!(port, expected);
    }

    #[test]
    fn log_lines_arrive(
        micros in any::<u64>(),
        level in level(),
        target in "[a-z0-9_:]{1,12}",
        text in text(),
    ) {
        let mut port = String::new();
        emit::log_line(&mut port, micros, level, &target, format_args!("{text}")).unwrap();
        let Ok(Line::Log(log)) = parse_line(one_line(&port)) else {
            return Err(TestCaseError::fail(port));
        };
        prop_assert_eq!(log.micros, micros);
        prop_assert_eq!(log.level, level);
        prop_assert_eq!(log.target, target);
        prop_assert_eq!(log.text.bytes().collect::<Vec<_>>(), text.into_bytes());
    }

    #[test]
    fn any_target_leaves_a_log_line(target in text(), text in text()) {
        let mut port = String::new();
        emit::log_line(&mut port, 0, Level::Warn, &target, format_args!("{text}")).unwrap();
        let Ok(Line::Log(log)) = parse_line(one_line(&port)) else {
            return Err(TestCaseError::fail(port));
        };
        prop_assert!(log.text.is(&text));
    }

    #[test]
    fn errors_arrive(text in text()) {
        let mut port = String::new();
        emit::error_line(&mut port, format_args!("{text}")).unwrap();
        let Ok(Line::Error(body)) = parse_line(one_line(&port)) else {
            return Err(TestCaseError::fail(port));
        };
        prop_assert!(body.is(&text));
    }

    #[test]
    fn events_arrive(
        name in "[a-z][a-z0-9_-]{0,9}",
        fields in vec(("[a-z][a-z0-9_-]{0,9}", text()), 0..5),
        number in any::<u64>(),
    ) {
        let mut port = String::new();
        let mut event = emit::event(&mut port, &name);
        for (key, value) in &fields {
            event = event.field(key, value);
        }
        event.field("_n", number).field("_x", format_args!("{number:#x}")).end().unwrap();
        let Ok(Line::Event(event)) = parse_line(one_line(&port)) else {
            return Err(TestCaseError::fail(port));
        };
        prop_assert_eq!(event.name(), name);
        let found: Vec<_> = event
            .fields()
            .take(fields.len())
            .map(|(key, value)| (key.to_owned(), value.bytes().collect::<Vec<_>>()))
            .collect();
        let sent: Vec<_> = fields
            .into_iter()
            .map(|(key, value)| (key, value.into_bytes()))
            .collect();
        prop_assert_eq!(found, sent);
        prop_assert_eq!(event.number("_n"), Some(number));
        prop_assert_eq!(event.number("_x"), Some(number));
    }

    #[test]
    fn any_name_leaves_an_event(name in text(), key in text(), value in text()) {
        let mut port = String::new();
        emit::event(&mut port, &name).field(&key, &value).end().unwrap();
        let Ok(Line::Event(event)) = parse_line(one_line(&port)) else {
            return Err(TestCaseError::fail(port));
        };
        let (_, found) = event.fields().next().expect("one field");
        prop_assert!(found.is(&value));
    }

    #[test]
    fn the_parser_survives_anything(tag in "[@|/!\\[x]?", bytes in vec(any::<u8>(), 0..80)) {
        let line = [tag.as_bytes(), &bytes].concat();
        if let Ok(Line::Event(event)) = parse_line(&line) {
            let _ = event.fields().map(|(_, value)| value.bytes().count()).sum::<usize>();
        }
    }

    #[test]
    fn a_damaged_line_does_not_upset_the_parser(
        value in text(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut port = String::new();
        emit::event(&mut port, "bench").field("name", &value).field("ops", 1).end().unwrap();
        let mut line = port.into_bytes();
        let at = at.index(line.len());
        line[at] = byte;
        if let Ok(Line::Event(event)) = parse_line(&line) {
            let _ = event.fields().filter_map(|(_, value)| value.number()).count();
        }
    }
}

#[test]
fn the_shape_of_each_line_is_fixed() {
    let mut port = String::new();
    emit::log_line(&mut port, 1_000_002, Level::Warn, "kho", format_args!("a\nb")).unwrap();
    emit::error_line(&mut port, format_args!("cat: /x: not found")).unwrap();
    emit::event(&mut port, "boot")
        .field("generation", 0)
        .field("build", "0.1.0 \"dev\"")
        .field("none", "")
        .end()
        .unwrap();
    let mut output = emit::Output::new();
    output.write(&mut port, b"a\\b\r\n\xff\xc3\xa9").unwrap();
    output.flush(&mut port).unwrap();
    output.flush(&mut port).unwrap();
    let expected = concat!(
        "[    1.000002] WARN  kho: a\\x0ab\n",
        "!cat: /x: not found\n",
        "@boot generation=0 build=\"0.1.0 \\\"dev\\\"\" none=\"\"\n",
        "|a\\\\b\\x0d\n",
        "/\\xffé\n",
    );
    assert_eq!(port, expected);
}

#[test]
fn what_is_no_line_is_an_error() {
    use protocol::parse::Error;
    for (line, error) in [
        (&b""[..], Error::Tag(None)),
        (b"\r\n", Error::Tag(None)),
        (b"SeaBIOS (version 1.16)", Error::Tag(Some(b'S'))),
        (b"|a\\q", Error::Escape { at: 1 }),
        (b"|\x1b[2J", Error::Escape { at: 0 }),
        (b"[ 0.1] INFO mm: x", Error::Log),
        (b"[    0.000001] LOUD  mm: x", Error::Log),
        (b"@", Error::Name),
        (b"@end reason", Error::Field),
        (b"@end reason=a=b", Error::Field),
        (b"@end reason=\"a", Error::Field),
        (b"@end reason=\"a\\\"", Error::Field),
    ] {
        assert_eq!(parse_line(line), Err(error), "{}", line.escape_ascii());
    }
}
