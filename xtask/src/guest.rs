//! A conversation with a guest that speaks the tagged protocol: boot, commands, the end.
//!
//! Whatever the guest does, a conversation ends in an [`Ending`]; what it says meanwhile goes to a
//! [`Listener`].

use std::collections::VecDeque;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use protocol::event;
use protocol::exit::Exit;
use protocol::parse::{Event, Line, Text, parse_line};

use crate::outcome::Ending;
use crate::session::{Next, Session};

/// How long QEMU may take to end after the guest's last word.
const LAST_WAIT: Duration = Duration::from_secs(10);

/// Who hears what the guest says.
pub trait Listener {
    /// Output of a command, byte for byte.
    fn output(&mut self, bytes: &[u8]);
    /// A line of error output.
    fn error(&mut self, line: &str);
    /// A line of the log, or of the firmware.
    fn log(&mut self, line: &str);
    /// An event.
    fn event(&mut self, event: Event<'_>) {
        let _ = event;
    }
}

/// A time limit: how long, and what it began to count from.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// How long.
    pub length: Duration,
    /// When it is over.
    pub deadline: Instant,
}

impl Limit {
    /// Begins now.
    pub fn new(length: Duration) -> Limit {
        Limit { length, deadline: Instant::now() + length }
    }
}

/// A guest that waits for a command.
pub struct Guest {
    session: Session,
    last_line: String,
    trace: Vec<u64>,
}

/// How a command went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Whether the guest called it a failure.
    pub failed: bool,
    /// The time-stamp counter just before the jump, if the command was a kexec.
    pub kexec_tsc: Option<u64>,
    /// The time-stamp counter at the prompt that followed.
    pub prompt_tsc: u64,
}

/// What ends a wait.
enum Met {
    Prompt { tsc: u64 },
    Done { failed: bool },
    Kexec { tsc: u64 },
}

impl Guest {
    /// Waits for the first prompt; also gives the time-stamp counter there.
    pub fn boot(session: Session, listener: &mut dyn Listener, limit: Limit) -> Result<(Guest, u64), Ending> {
        let mut guest = Guest { session, last_line: String::new(), trace: Vec::new() };
        loop {
            if let Met::Prompt { tsc } = guest.meet(listener, limit, "prompt")? {
                return Ok((guest, tsc));
            }
        }
    }

    /// Gives one command line, and waits until the guest is ready for the next, in the same kernel
    /// or the one after. `Err(Ending::Clean)` means that the command was to power off.
    pub fn command(&mut self, line: &str, listener: &mut dyn Listener, limit: Limit) -> Result<Done, Ending> {
        self.session.send(line);
        let mut done = Done { failed: false, kexec_tsc: None, prompt_tsc: 0 };
        let waiting_for = format!("answer to '{line}'");
        loop {
            match self.meet(listener, limit, &waiting_for)? {
                Met::Done { failed } => done.failed = failed,
                Met::Kexec { tsc } => done.kexec_tsc = Some(tsc),
                Met::Prompt { tsc } => {
                    done.prompt_tsc = tsc;
                    return Ok(done);
                }
            }
        }
    }

    /// Powers the guest off.
    pub fn power_off(mut self, listener: &mut dyn Listener, limit: Limit) -> Ending {
        match self.command("poweroff", listener, limit) {
            Err(ending) => ending,
            Ok(_) => {
                Ending::Died { status: "still running after poweroff".to_owned(), last_line: self.last_line.clone() }
            }
        }
    }

    /// Reads on to the next event that says where the guest stands.
    fn meet(&mut self, listener: &mut dyn Listener, limit: Limit, waiting_for: &str) -> Result<Met, Ending> {
        loop {
            let line = match self.session.line(limit.deadline) {
                Next::Line(line) => line,
                Next::Closed => return Err(self.ended(None)),
                Next::Late => {
                    self.session.note(&format!("too late: {waiting_for}"));
                    return Err(Ending::TimedOut { waiting_for: waiting_for.to_owned(), limit: limit.length });
                }
            };
            self.last_line = String::from_utf8_lossy(&line).into_owned();
            match parse_line(&line) {
                Ok(Line::Output(text)) => {
                    listener.output(&text.bytes().chain([b'\n']).collect::<Vec<_>>());
                }
                Ok(Line::Piece(text)) => listener.output(&text.bytes().collect::<Vec<_>>()),
                Ok(Line::Error(text)) => listener.error(&string(text)),
                Ok(Line::Log(_)) | Err(_) => listener.log(&self.last_line),
                Ok(Line::Event(event)) => {
                    listener.event(event);
                    if event.name() == event::FALLBACK {
                        // No end: the kernel before comes back. It belongs with what the log says of that.
                        listener.log(&self.last_line);
                    }
                    if let Some(met) = met(event) {
                        return Ok(met);
                    }
                    if let Some(claim) = Claim::from_event(event) {
                        return Err(self.last_words(listener, claim));
                    }
                }
            }
        }
    }

    /// Reads what comes after an event that announces the end, which must be little.
    fn last_words(&mut self, listener: &mut dyn Listener, mut claim: Claim) -> Ending {
        let deadline = Instant::now() + LAST_WAIT;
        while let Next::Line(line) = self.session.line(deadline) {
            self.last_line = String::from_utf8_lossy(&line).into_owned();
            match parse_line(&line) {
                Ok(Line::Event(event)) if event.name() == event::TRACE => {
                    self.trace.extend(event.number("pc"));
                }
                Ok(Line::Event(event)) if event.name() == event::END => {}
                line => {
                    listener.log(&self.last_line);
                    let of_panic = matches!(line, Ok(Line::Log(log)) if log.target == PANIC);
                    match claim {
                        // Something follows the closing line, so it was none.
                        Claim::PowerOff => claim = Claim::Nothing,
                        // Some other CPU went on, and may have torn what the panic had to say.
                        Claim::Panic { .. } if !of_panic => claim = Claim::Nothing,
                        _ => {}
                    }
                }
            }
        }
        self.ended(Some(claim))
    }

    /// Weighs what the guest said against QEMU's exit status.
    fn ended(&mut self, claim: Option<Claim>) -> Ending {
        let status = self.session.wait(Instant::now() + LAST_WAIT).ok().flatten();
        let code = status.and_then(|status| status.code());
        match (claim, code.and_then(Exit::from_qemu_status)) {
            (Some(Claim::PowerOff), Some(Exit::Clean)) => Ending::Clean,
            (Some(Claim::Panic { message, location }), Some(Exit::Panic)) => {
                Ending::Panic { message, location, trace: std::mem::take(&mut self.trace) }
            }
            (Some(Claim::Refused { reason }), Some(Exit::Refused)) => Ending::Refused { reason },
            _ => Ending::Died {
                status: status.map_or("QEMU does not end".to_owned(), |status| describe(&status)),
                last_line: self.last_line.clone(),
            },
        }
    }
}

fn describe(status: &ExitStatus) -> String {
    match status.code() {
        Some(0) => "QEMU ended with status 0: reset, triple fault or signal".to_owned(),
        Some(code) => format!("QEMU ended with status {code}"),
        None => format!("QEMU: {status}"),
    }
}

fn string(text: Text<'_>) -> String {
    String::from_utf8_lossy(&text.bytes().collect::<Vec<_>>()).into_owned()
}

fn met(event: Event<'_>) -> Option<Met> {
    let tsc = || event.number("tsc").unwrap_or(0);
    match event.name() {
        event::PROMPT => Some(Met::Prompt { tsc: tsc() }),
        event::KEXEC => Some(Met::Kexec { tsc: tsc() }),
        event::DONE => Some(Met::Done { failed: event.number("status") != Some(0) }),
        _ => None,
    }
}

/// The target of log lines that belong to a panic.
const PANIC: &str = "panic";

/// What the guest says about its end.
enum Claim {
    PowerOff,
    Panic { message: String, location: String },
    Refused { reason: String },
    Nothing,
}

impl Claim {
    fn from_event(event: Event<'_>) -> Option<Claim> {
        let field = |key| event.get(key).map_or(String::new(), string);
        match event.name() {
            event::PANIC => Some(Claim::Panic { message: field("message"), location: field("location") }),
            event::REFUSED => Some(Claim::Refused { reason: field("reason") }),
            event::END if event.get("reason")?.is(event::REASON_POWEROFF) => Some(Claim::PowerOff),
            event::END => Some(Claim::Nothing),
            _ => None,
        }
    }
}

/// What a guest measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The name of the measurement.
    pub name: String,
    /// Instructions, of all operations.
    pub instructions: u64,
    /// Operations.
    pub operations: u64,
}

impl Measured {
    fn from_event(event: Event<'_>) -> Option<Measured> {
        let number = |key| (event.name() == event::BENCH).then(|| event.number(key)).flatten();
        Some(Measured {
            name: string(event.get("name")?),
            instructions: number("instructions")?,
            operations: number("ops")?,
        })
    }
}

/// Collects what a guest says.
#[derive(Debug, Default)]
pub struct Record {
    /// Output, byte for byte.
    pub output: Vec<u8>,
    /// Error output.
    pub errors: Vec<String>,
    /// Log and firmware.
    pub log: VecDeque<String>,
    /// Measurements.
    pub measured: Vec<Measured>,
}

impl Record {
    /// The output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }
}

impl Listener for Record {
    fn output(&mut self, bytes: &[u8]) {
        self.output.extend(bytes);
    }

    fn error(&mut self, line: &str) {
        self.errors.push(line.to_owned());
    }

    fn log(&mut self, line: &str) {
        self.log.push_back(line.to_owned());
    }

    fn event(&mut self, event: Event<'_>) {
        self.measured.extend(Measured::from_event(event));
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A shell script in the guest's place, up to the first prompt.
    fn boot(script: &str) -> (Result<Guest, Ending>, Record) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let log = tempfile(script);
        let session = Session::start(command, &log).unwrap();
        std::fs::remove_file(log).unwrap();
        let mut said = Record::default();
        let limit = Limit::new(Duration::from_secs(20));
        let guest = Guest::boot(session, &mut said, limit).map(|(guest, _)| guest);
        (guest, said)
    }

    fn tempfile(script: &str) -> std::path::PathBuf {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hash = DefaultHasher::new();
        (script, std::process::id()).hash(&mut hash);
        std::env::temp_dir().join(format!("xtask-guest-{:x}", hash.finish()))
    }

    fn ending(script: &str) -> Ending {
        match boot(script).0 {
            Err(ending) => ending,
            Ok(guest) => guest.power_off(&mut Record::default(), Limit::new(Duration::from_millis(300))),
        }
    }

    const PROMPT: &str = "echo @prompt tsc=7; read line;";

    #[test]
    fn a_clean_end_takes_both_the_closing_line_and_the_status() {
        let end = "echo @end reason=poweroff;";
        assert_eq!(ending(&format!("{PROMPT} {end} exit 33")), Ending::Clean);
        for script in [
            format!("{PROMPT} {end} exit 0"),
            format!("{PROMPT} {end} exit 35"),
            format!("{PROMPT} exit 33"),
            format!("{PROMPT} {end} echo more; exit 33"),
            format!("{PROMPT} echo @end reason=panic; exit 33"),
            "exit 33".to_owned(),
            "kill -9 $$".to_owned(),
        ] {
            assert!(matches!(ending(&script), Ending::Died { .. }), "{script}");
        }
    }

    #[test]
    fn a_panic_is_told_with_its_trace() {
        let script = r#"echo '@panic message="a \"b\"" location=src/x.rs:1:2'
            echo @trace pc=0xff; echo @trace pc=0x10; echo @end reason=panic; exit 35"#;
        assert_eq!(
            ending(script),
            Ending::Panic {
                message: r#"a "b""#.to_owned(),
                location: "src/x.rs:1:2".to_owned(),
                trace: vec![0xff, 0x10],
            }
        );
    }

    #[test]
    fn a_refusal_is_told_with_its_reason() {
        let refused = ending("echo '@refused reason=\"no ELF\"'; exit 37");
        let reason = "no ELF".to_owned();
        assert_eq!(refused, Ending::Refused { reason });
    }

    #[test]
    fn silence_ends_in_a_time_out() {
        let script = format!("{PROMPT} exec sleep 60");
        assert!(matches!(ending(&script), Ending::TimedOut { .. }));
    }

    #[test]
    fn a_kernel_that_comes_back_is_no_end() {
        let script = r#"echo @prompt tsc=1; read a; echo @kexec tsc=5; echo @boot generation=1
            echo '@fallback message="broken" location=src/x.rs:1:2'; echo @trace pc=0xff
            echo @boot generation=2; echo @up generation=2; echo '!kexec: it failed'
            echo @done status=1; echo @prompt tsc=9; read b; echo @end reason=poweroff; exit 33"#;
        let mut guest = boot(script).0.unwrap_or_else(|ending| panic!("{ending}"));
        let (limit, mut said) = (Limit::new(Duration::from_secs(20)), Record::default());
        let kexec = guest.command("kexec", &mut said, limit).unwrap();
        assert_eq!(kexec, Done { failed: true, kexec_tsc: Some(5), prompt_tsc: 9 });
        assert_eq!(said.log, [r#"@fallback message="broken" location=src/x.rs:1:2"#]);
        assert_eq!(said.errors, ["kexec: it failed"]);
        assert_eq!(guest.power_off(&mut said, limit), Ending::Clean);
    }

    #[test]
    fn commands_are_answered_through_a_kexec_too() {
        let script = r#"echo firmware; echo '[    0.000001] INFO  boot: hi'
            echo @prompt tsc=1; read a; echo "|got $a"; echo '/a\x00'; echo '!bad'
            echo @done status=1; echo @prompt tsc=2
            read b; echo @kexec tsc=5; echo @boot generation=1; echo @prompt tsc=9
            read c; echo @end reason=poweroff; exit 33"#;
        let (guest, booted) = boot(script);
        let mut guest = guest.unwrap_or_else(|ending| panic!("{ending}"));
        assert_eq!(booted.log, ["firmware", "[    0.000001] INFO  boot: hi"]);
        let limit = Limit::new(Duration::from_secs(20));
        let mut said = Record::default();
        let first = guest.command("one two", &mut said, limit).unwrap();
        assert!(first.failed);
        assert_eq!(said.output, b"got one two\na\0");
        assert_eq!(said.errors, ["bad"]);
        let kexec = guest.command("kexec", &mut said, limit).unwrap();
        let expected = Done { failed: false, kexec_tsc: Some(5), prompt_tsc: 9 };
        assert_eq!(kexec, expected);
        assert_eq!(guest.power_off(&mut said, limit), Ending::Clean);
    }
}
