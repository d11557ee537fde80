//! QEMU's machine protocol: a conversation with the QEMU of a guest that runs.
//!
//! One JSON value a line, over a socket that serves one client at a time. No call waits longer than [`PATIENCE`];
//! what QEMU refuses is an error with QEMU's reason. Events are passed over.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long QEMU may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at something that changes.
pub const POLL: Duration = Duration::from_millis(50);
/// Where the devices are that a machine was given, by their names on QEMU's command line.
const BALLOON: &str = "/machine/peripheral/balloon0";
const MEM: &str = "/machine/peripheral/vmem0";
/// The value of a statistic that the guest does not report.
const NOT_REPORTED: u64 = u64::MAX;

/// A conversation with a QEMU.
pub struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to the socket, which must be there already, and gets past the greeting.
    pub fn connect(socket: &Path) -> Result<Qmp> {
        let stream = UnixStream::connect(socket).with_context(|| format!("no QEMU listens at {socket:?}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut qmp = Qmp { reader: BufReader::new(stream) };
        // A QEMU that has another client lets us wait here.
        if qmp.receive().context("QEMU does not greet")?.get("QMP").is_none() {
            bail!("what listens at {socket:?} is no QEMU");
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Has a command executed, and gives what it returns.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.request(&json!({ "execute": command, "arguments": arguments })).with_context(|| command.to_owned())
    }

    /// Sends a request as it is.
    pub fn request(&mut self, request: &Value) -> Result<Value> {
        self.reader.get_mut().write_all(format!("{request}\n").as_bytes()).context("QEMU does not listen")?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut answer = self.receive()?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU: {}", error.get("desc").and_then(Value::as_str).unwrap_or("refused"));
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
        bail!("QEMU sends events, and no answer")
    }

    fn receive(&mut self) -> Result<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line).context("no answer from QEMU")? {
            0 => bail!("QEMU has hung up"),
            _ => serde_json::from_str(&line).with_context(|| format!("QEMU does not speak JSON: {line:?}")),
        }
    }

    fn property(&mut self, path: &str, property: &str) -> Result<Value> {
        self.execute("qom-get", json!({ "path": path, "property": property }))
    }

    fn set_property(&mut self, path: &str, property: &str, value: u64) -> Result<()> {
        self.execute("qom-set", json!({ "path": path, "property": property, "value": value })).map(drop)
    }

    /// The memory that the guest started with.
    pub fn memory(&mut self) -> Result<u64> {
        number(&self.execute("query-memory-size-summary", json!({}))?, "base-memory")
    }

    /// Sets how many bytes of the guest's memory the host wants to have. QEMU is told what should remain.
    pub fn set_balloon(&mut self, taken: u64) -> Result<()> {
        let memory = self.memory()?;
        match memory.checked_sub(taken).filter(|&remaining| remaining > 0) {
            Some(remaining) => self.execute("balloon", json!({ "value": remaining })).map(drop),
            None => bail!("the guest has only {memory} bytes"),
        }
    }

    /// How many bytes the host has by the balloon.
    pub fn balloon(&mut self) -> Result<u64> {
        let remaining = number(&self.execute("query-balloon", json!({}))?, "actual")?;
        Ok(self.memory()?.saturating_sub(remaining))
    }

    /// Sets how many bytes virtio-mem should have plugged.
    pub fn set_mem(&mut self, plugged: u64) -> Result<()> {
        self.set_property(MEM, "requested-size", plugged)
    }

    /// How many bytes virtio-mem has plugged.
    pub fn mem(&mut self) -> Result<u64> {
        self.property(MEM, "size")?.as_u64().context("the size of virtio-mem is no number")
    }

    /// What the guest reports by the balloon's statistics queue, asked for now.
    pub fn guest_stats(&mut self) -> Result<BTreeMap<String, u64>> {
        let before = number(&self.property(BALLOON, "guest-stats")?, "last-update")?;
        self.set_property(BALLOON, "guest-stats-polling-interval", 1)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.property(BALLOON, "guest-stats")?;
            if number(&stats, "last-update")? > before {
                return Ok(reported(&stats));
            }
            if Instant::now() >= deadline {
                bail!("the guest reports no statistics");
            }
            thread::sleep(POLL);
        }
    }
}

fn number(value: &Value, name: &str) -> Result<u64> {
    value.get(name).and_then(Value::as_u64).with_context(|| format!("QEMU gives no {name}: {value}"))
}

fn reported(stats: &Value) -> BTreeMap<String, u64> {
    let stats = stats.get("stats").and_then(Value::as_object).into_iter().flatten();
    stats
        .filter_map(|(name, value)| Some((name.clone(), value.as_u64()?)))
        .filter(|(_, value)| *value != NOT_REPORTED)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A QEMU that says its lines, one for each that it hears, and gives what it heard.
    fn qemu(name: &str, lines: &'static [&'static str]) -> (Result<Qmp>, thread::JoinHandle<Vec<String>>) {
        let path = std::env::temp_dir().join(format!("xtask-qmp-{name}-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut heard = Vec::new();
            for line in lines {
                stream.get_mut().write_all(line.as_bytes()).unwrap();
                let mut request = String::new();
                stream.read_line(&mut request).unwrap();
                heard.push(request);
            }
            heard
        });
        let qmp = Qmp::connect(&path);
        std::fs::remove_file(path).unwrap();
        (qmp, server)
    }

    const GREETING: &str = "{\"QMP\": {}}\n";
    const DONE: &str = "{\"return\": {}}\n";

    #[test]
    fn what_should_remain_is_what_qemu_is_told() {
        const MEMORY: &str = "{\"event\": \"RESUME\"}\n{\"return\": {\"base-memory\": 1000}}\n";
        let (qmp, server) = qemu("balloon", &[GREETING, DONE, MEMORY, DONE]);
        let mut qmp = qmp.unwrap();
        qmp.set_balloon(300).unwrap();
        drop(qmp);
        let heard = server.join().unwrap();
        let told: Value = serde_json::from_str(&heard[2]).unwrap();
        assert_eq!(told, json!({ "execute": "balloon", "arguments": { "value": 700 } }));
    }

    #[test]
    fn a_refusal_has_its_reason() {
        const REFUSAL: &str = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such device\"}}\n";
        let (qmp, server) = qemu("refusal", &[GREETING, DONE, REFUSAL]);
        let mut qmp = qmp.unwrap();
        let error = format!("{:#}", qmp.set_mem(4096).unwrap_err());
        assert_eq!(error, "qom-set: QEMU: no such device");
        drop(qmp);
        server.join().unwrap();
    }

    #[test]
    fn what_is_not_qemu_is_noticed() {
        let (qmp, server) = qemu("stranger", &["{}\n"]);
        assert!(qmp.is_err());
        server.join().unwrap();
        assert!(Qmp::connect(Path::new("/nonexistent/socket")).is_err());
    }

    #[test]
    fn statistics_that_are_not_reported_are_left_out() {
        let stats = json!({ "stats": { "stat-swap-in": u64::MAX, "stat-free-memory": 7 }, "last-update": 1 });
        assert_eq!(reported(&stats), [("stat-free-memory".to_owned(), 7)].into());
    }
}
