//! stub
use crate::system::System;
use core::convert::Infallible;
use core::fmt;
pub struct Generation { pub number: u32 }
impl Generation {
    pub fn downtime(&self) -> core::time::Duration { core::time::Duration::from_millis(3) }
    pub fn spoil_next(&self) {}
}
impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { writeln!(f, "generation {}", self.number) }
}
pub fn kexec(_: &System, _: Option<&[u8]>) -> Result<Infallible, &'static str> { Err("stub") }
