//! Failures on purpose, to show what becomes of them. Reached only through the shell's `fault` word.

use super::{Generation, KexecError, Step};
use crate::fault::Stage;

/// What is to go wrong, once.
#[derive(Clone, Copy, Debug)]
pub enum Provoke {
    /// The next handover arrives damaged.
    SpoiltHandover,
    /// The next kexec is called off after this step.
    CallOff(Step),
    /// The next kernel fails at this stage.
    NextFails(Stage),
}

/// What was asked for and has not happened yet.
#[derive(Debug, Default)]
pub struct Provoked {
    spoil: bool,
    call_off: Option<Step>,
    next_fails: Option<Stage>,
}

impl Generation {
    /// Lets something go wrong.
    pub fn provoke(&self, what: Provoke) {
        let mut provoked = self.provoked.lock();
        match what {
            Provoke::SpoiltHandover => provoked.spoil = true,
            Provoke::CallOff(step) => provoked.call_off = Some(step),
            Provoke::NextFails(stage) => provoked.next_fails = Some(stage),
        }
    }

    /// Whether to damage the handover.
    pub(super) fn spoils(&self) -> bool {
        self.provoked.lock().spoil
    }

    /// Where the next kernel is to fail.
    pub(super) fn next_fails(&self) -> Option<Stage> {
        self.provoked.lock().next_fails
    }

    /// A step of a kexec has been made; fails if it ends there, because `called_off` says so or as a test.
    pub(super) fn made(&self, step: Step, called_off: &mut dyn FnMut() -> bool) -> Result<(), KexecError> {
        let provoked = self.provoked.lock().call_off.take_if(|provoked| *provoked == step).is_some();
        if provoked || called_off() { Err(KexecError::CalledOff(step)) } else { Ok(()) }
    }
}
