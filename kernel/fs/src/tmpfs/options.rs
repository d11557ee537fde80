//! What a tmpfs is mounted with.

use core::fmt;

/// How a tmpfs is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The most bytes of content; half of memory if that is left open.
    pub size: Option<u64>,
    /// Whether it outlives the kernel. One that does not can have frames of the scratch area too, and adds nothing to a kexec.
    pub handover: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { size: None, handover: true }
    }
}

/// As `mount -o` has them: those that are not the usual.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        if let Some(size) = self.size {
            write!(f, "size={}k", size / 1024)?;
            comma = ",";
        }
        if !self.handover {
            write!(f, "{comma}handover=no")?;
        }
        Ok(())
    }
}
