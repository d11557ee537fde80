//! Finding a table: from the root pointer over the list of tables to the one with a signature.

use core::fmt;

/// Physical memory, to be read.
pub trait Physical {
    /// Fills `out` with what lies at `address`; `None` if that is no place to read.
    fn read(&self, address: u64, out: &mut [u8]) -> Option<()>;
}

/// The four letters that a table begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature(pub [u8; 4]);

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// Why the tables do not say anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcpiError {
    /// What should be read here is no memory.
    NoMemory(u64),
    /// There is no root pointer at this address.
    NoRoot(u64),
    /// A table has another signature than expected.
    Expected(Signature),
    /// The table's bytes do not add up to zero.
    Checksum(Signature),
    /// The table claims an impossible length.
    Length(Signature, u32),
    /// The list names no such table.
    Missing(Signature),
    /// A record of the table ends beyond it, or is too short for its type.
    Record {
        /// Which table.
        table: Signature,
        /// Where in the table the record begins.
        offset: u32,
    },
    /// The local APICs lie elsewhere than on any machine that this kernel knows.
    LocalApic(u64),
}

impl fmt::Display for AcpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory(address) => write!(f, "a table would be at {address:#x}, where there is none to read"),
            Self::NoRoot(address) => write!(f, "no root pointer at {address:#x}"),
            Self::Expected(signature) => write!(f, "something else where table {signature} should be"),
            Self::Checksum(signature) => write!(f, "the checksum of table {signature} is wrong"),
            Self::Length(signature, length) => write!(f, "table {signature} cannot have {length} bytes"),
            Self::Missing(signature) => write!(f, "there is no table {signature}"),
            Self::Record { table, offset } => write!(f, "table {table} is broken at byte {offset}"),
            Self::LocalApic(address) => write!(f, "the local APICs are at {address:#x}"),
        }
    }
}

impl core::error::Error for AcpiError {}

/// What every table begins with: signature, length, revision, checksum, and who made it.
pub(crate) const HEADER: u32 = 36;
/// No table that is read here is longer; one with a thousand processors is not.
const LONGEST: u32 = 64 * 1024;

const ROOT_SIGNATURE: &[u8; 8] = b"RSD PTR ";
const ROOT_LEN: usize = 36;
/// Of the first version of the root pointer.
const OLD_ROOT_LEN: usize = 20;

/// A table that lies in memory, with a length that makes sense and the right checksum.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a> {
    memory: &'a dyn Physical,
    start: u64,
    pub(crate) signature: Signature,
    pub(crate) len: u32,
}

impl<'a> Table<'a> {
    /// The table at `start`, which has to be one with this signature.
    fn open(memory: &'a dyn Physical, start: u64, signature: Signature) -> Result<Self, AcpiError> {
        let table = Self { memory, start, signature, len: HEADER };
        if table.bytes(0)? != signature.0 {
            return Err(AcpiError::Expected(signature));
        }
        let len = u32::from_le_bytes(table.bytes(4)?);
        if !(HEADER..=LONGEST).contains(&len) {
            return Err(AcpiError::Length(signature, len));
        }
        let table = Self { len, ..table };
        if table.sum()? == 0 { Ok(table) } else { Err(AcpiError::Checksum(signature)) }
    }

    /// What its bytes add up to.
    fn sum(&self) -> Result<u8, AcpiError> {
        const PIECE: u32 = 64;
        let (mut sum, mut offset) = (0, 0);
        while offset + PIECE <= self.len {
            sum = add_up(sum, &self.bytes::<{ PIECE as usize }>(offset)?);
            offset += PIECE;
        }
        (offset..self.len).try_fold(sum, |sum, offset| Ok(add_up(sum, &self.bytes::<1>(offset)?)))
    }

    /// Bytes of the table, which must not end beyond it.
    pub(crate) fn bytes<const N: usize>(&self, offset: u32) -> Result<[u8; N], AcpiError> {
        let end = u64::from(offset) + N as u64;
        if end > u64::from(self.len) {
            return Err(AcpiError::Record { table: self.signature, offset });
        }
        let address = self.start.checked_add(u64::from(offset)).ok_or(AcpiError::NoMemory(self.start))?;
        let mut out = [0; N];
        self.memory.read(address, &mut out).ok_or(AcpiError::NoMemory(address))?;
        Ok(out)
    }
}

fn add_up(sum: u8, bytes: &[u8]) -> u8 {
    bytes.iter().fold(sum, |sum, byte| sum.wrapping_add(*byte))
}

/// The table with this signature, as the root pointer at `root` leads to it. Others are not looked at but for their signature, so
/// it does not matter what is wrong with them.
pub(crate) fn find(memory: &dyn Physical, root: u64, signature: Signature) -> Result<Table<'_>, AcpiError> {
    let (list, width) = list(memory, root)?;
    for offset in (HEADER..list.len).step_by(width as usize) {
        let start = match width {
            4 => u64::from(u32::from_le_bytes(list.bytes(offset)?)),
            _ => u64::from_le_bytes(list.bytes(offset)?),
        };
        let mut found = [0; 4];
        if memory.read(start, &mut found).is_some() && found == signature.0 {
            return Table::open(memory, start, signature);
        }
    }
    Err(AcpiError::Missing(signature))
}

/// The list of tables, and how many bytes each of its addresses has.
fn list(memory: &dyn Physical, root: u64) -> Result<(Table<'_>, u32), AcpiError> {
    let mut pointer = [0; ROOT_LEN];
    let (old, new) = pointer.split_at_mut(OLD_ROOT_LEN);
    let sums_to_zero = |bytes: &[u8]| add_up(0, bytes) == 0;
    memory.read(root, old).ok_or(AcpiError::NoMemory(root))?;
    if !old.starts_with(ROOT_SIGNATURE) || !sums_to_zero(old) {
        return Err(AcpiError::NoRoot(root));
    }
    const SINCE_LONG_ADDRESSES: u8 = 2;
    let [.., revision, a, b, c, d] = *old else { return Err(AcpiError::NoRoot(root)) };
    let short = u64::from(u32::from_le_bytes([a, b, c, d]));
    if revision >= SINCE_LONG_ADDRESSES {
        let address = root.checked_add(OLD_ROOT_LEN as u64).ok_or(AcpiError::NoMemory(root))?;
        memory.read(address, new).ok_or(AcpiError::NoMemory(address))?;
        let long = new.get(4..12).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
        if !sums_to_zero(&pointer) {
            return Err(AcpiError::NoRoot(root));
        }
        if long != 0 {
            return Ok((Table::open(memory, long, Signature(*b"XSDT"))?, 8));
        }
    }
    Ok((Table::open(memory, short, Signature(*b"RSDT"))?, 4))
}
