//! How the guest ends QEMU, and what QEMU's exit status then says.
//!
//! `isa-debug-exit` turns a value `v` written to its port into the exit status `2 v + 1`. The
//! values are chosen away from 0 and 1, whose statuses QEMU uses for errors of its own; a triple
//! fault under `-no-reboot` and a SIGTERM both end in status 0, so 0 is never a success here.

/// I/O port of `-device isa-debug-exit,iobase=0xf4,iosize=0x04`; takes a 32-bit write.
pub const PORT: u16 = 0xf4;

/// Why the guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Exit {
    /// `poweroff`, with everything in order.
    Clean = 0x10,
    /// The kernel panicked.
    Panic = 0x11,
    /// The boot stage refused to start the kernel.
    Refused = 0x12,
}

impl Exit {
    /// Every way to end.
    pub const ALL: [Exit; 3] = [Exit::Clean, Exit::Panic, Exit::Refused];

    /// The value to write to [`PORT`].
    pub const fn value(self) -> u32 {
        self as u32
    }

    /// The exit status of the QEMU process.
    pub const fn qemu_status(self) -> i32 {
        ((self as i32) << 1) | 1
    }

    /// What an exit status of QEMU means, if the guest chose it.
    pub fn from_qemu_status(status: i32) -> Option<Exit> {
        Exit::ALL.into_iter().find(|exit| exit.qemu_status() == status)
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn statuses_are_those_qemu_was_seen_to_give() {
        assert_eq!(Exit::Clean.qemu_status(), 33);
        assert_eq!(Exit::Panic.qemu_status(), 35);
        assert_eq!(Exit::Refused.qemu_status(), 37);
        assert_eq!(Exit::from_qemu_status(35), Some(Exit::Panic));
        assert_eq!(Exit::from_qemu_status(0), None);
        assert_eq!(Exit::from_qemu_status(1), None);
    }
}
