//! The `log` crate's sink: every line goes to the ring, and those grave enough go out on the serial line too.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicUsize, Ordering};

use log::{LevelFilter, Log, Metadata, Record};
use protocol::{Level, emit};

use super::{Console, Mode, mode};
use crate::time;

struct Sink;

static SINK: Sink = Sink;

/// The least grave level that is shown, as the number that `log` gives it.
static SHOWN: AtomicUsize = AtomicUsize::new(LevelFilter::Info as usize);

/// Installs the sink. Lines down to `shown` appear on the serial line; the ring has at least those of level `info`.
pub fn init_log(shown: LevelFilter) {
    SHOWN.store(shown as usize, Ordering::Relaxed);
    // It fails only if a logger is installed already, which is then this one.
    drop(log::set_logger(&SINK));
    log::set_max_level(shown.max(LevelFilter::Info));
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            log::Level::Error => Level::Error,
            log::Level::Warn => Level::Warn,
            log::Level::Info => Level::Info,
            log::Level::Debug => Level::Debug,
            log::Level::Trace => Level::Trace,
        };
        let target = record.target().strip_prefix("kernel::").unwrap_or(record.target());
        let micros = time::uptime_micros();
        let mut console = super::lock();
        let Console { port, log, .. } = &mut *console;
        let written = if record.level() as usize <= SHOWN.load(Ordering::Relaxed) {
            if mode() == Mode::Plain {
                port.finish_line();
            }
            emit::log_line(&mut Both(log, port), micros, level, target, *record.args())
        } else {
            emit::log_line(log, micros, level, target, *record.args())
        };
        super::port_never_fails(written);
        port.flush();
    }

    fn flush(&self) {}
}

/// Writes everything twice.
struct Both<'a, A, B>(&'a mut A, &'a mut B);

impl<A: Write, B: Write> Write for Both<'_, A, B> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(text)?;
        self.1.write_str(text)
    }
}
