//! A running QEMU, as a stream of lines with a time limit.
//!
//! Invariants: everything that crosses the serial line is in the log file; the child never
//! outlives the [`Session`]; no read waits beyond its deadline.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A longer line is cut; the guest's own lines are far shorter.
const LONGEST_LINE: u64 = 64 << 10;
/// Lines that may wait between QEMU and us before QEMU has to.
const LINES_IN_FLIGHT: usize = 1024;
const POLL: Duration = Duration::from_millis(5);

/// A running QEMU.
pub struct Session {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<Vec<u8>>,
    log: Log,
}

/// What [`Session::line`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A line, without its ending.
    Line(Vec<u8>),
    /// Nothing until the deadline.
    Late,
    /// The line is closed: QEMU has ended.
    Closed,
}

/// The log file, shared with the threads that fill it.
#[derive(Clone)]
struct Log(Arc<Mutex<File>>);

impl Log {
    fn write(&self, lead: &str, line: &[u8]) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk must not end a run that needs no log.
        let _ = file.write_all(&[lead.as_bytes(), line, b"\n"].concat());
    }
}

impl Session {
    /// Starts `command`, which is to speak over its standard input and output; everything that is
    /// said goes to `log`, what QEMU itself has to say included.
    pub fn start(mut command: Command, log: &Path) -> Result<Session> {
        let file = File::create(log).with_context(|| format!("cannot make {log:?}"))?;
        let log = Log(Arc::new(Mutex::new(file)));
        log.write("# ", format!("{command:?}").as_bytes());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let stdin = child.stdin.take().context("no pipe to QEMU")?;
        let stdout = child.stdout.take().context("no pipe from QEMU")?;
        let stderr = child.stderr.take().context("no pipe from QEMU")?;
        let (sender, lines) = sync_channel(LINES_IN_FLIGHT);
        let serial = log.clone();
        thread::spawn(move || forward(stdout, |line| serial.write("", line), Some(sender)));
        let complaints = log.clone();
        thread::spawn(move || forward(stderr, |line| complaints.write("# qemu: ", line), None));
        Ok(Session { child, stdin, lines, log })
    }

    /// Sends one line. A guest that has ended is found out by the next read.
    pub fn send(&mut self, line: &str) {
        self.note(&format!("sent: {line}"));
        let _ = self.stdin.write_all(format!("{line}\n").as_bytes());
        let _ = self.stdin.flush();
    }

    /// Writes a remark to the log.
    pub fn note(&self, remark: &str) {
        self.log.write("# ", remark.as_bytes());
    }

    /// Waits for a line.
    pub fn line(&mut self, deadline: Instant) -> Next {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => Next::Line(line),
            Err(RecvTimeoutError::Timeout) => Next::Late,
            Err(RecvTimeoutError::Disconnected) => Next::Closed,
        }
    }

    /// Waits for QEMU to end; `None` if it does not until the deadline.
    pub fn wait(&mut self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.note(&format!("QEMU: {status}"));
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Cuts a stream into lines, for the log and for whoever listens.
fn forward(stream: impl Read, log: impl Fn(&[u8]), sender: Option<SyncSender<Vec<u8>>>) {
    let mut stream = BufReader::new(stream);
    let mut sender = sender;
    loop {
        let mut line = Vec::new();
        match (&mut stream).take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            line.pop();
        }
        log(&line);
        // Goes on for the log's sake when nobody listens any more.
        sender = sender.filter(|sender| sender.send(line).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, name: &str) -> (Session, std::path::PathBuf) {
        let log = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        (Session::start(command, &log).unwrap(), log)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn lines_pass_both_ways_and_into_the_log() {
        let (mut session, log) = shell("read x; echo \"got $x\"; echo bad >&2; exit 33", "both");
        session.send("word");
        assert_eq!(session.line(soon()), Next::Line(b"got word".to_vec()));
        assert_eq!(session.line(soon()), Next::Closed);
        assert_eq!(session.wait(soon()).unwrap().unwrap().code(), Some(33));
        thread::sleep(Duration::from_millis(50));
        let text = std::fs::read_to_string(&log).unwrap();
        for part in ["# sent: word\n", "got word\n", "# qemu: bad\n"] {
            assert!(text.contains(part), "{part:?} not in {text:?}");
        }
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn silence_is_noticed_and_the_child_goes_with_the_session() {
        let (mut session, log) = shell("echo $$; exec sleep 600", "silence");
        let Next::Line(pid) = session.line(soon()) else {
            panic!("no line");
        };
        let process = format!("/proc/{}", String::from_utf8(pid).unwrap());
        let short = Instant::now() + Duration::from_millis(30);
        assert_eq!(session.line(short), Next::Late);
        assert!(Path::new(&process).exists());
        drop(session);
        assert!(!Path::new(&process).exists());
        std::fs::remove_file(log).unwrap();
    }
}
