//! The clock chip (MC146818): what time it was at boot. Read once; the time-stamp counter goes on from there.
//!
//! A machine may have none (microvm); its registers then read as all ones, which is no date, and time starts at 1970.

use x86_64::instructions::port::Port;

/// Registers of the MC146818A, and the century where PC firmware keeps it.
const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const CENTURY: u8 = 0x32;

const UPDATE_IN_PROGRESS: u8 = 0x80;
const BINARY: u8 = 0x04;
const HOURS_24: u8 = 0x02;
const AFTERNOON: u8 = 0x80;

/// An update takes 2 ms at most; this many polls take longer on any machine.
const MAX_POLLS: u32 = 100_000;

fn read(register: u8) -> u8 {
    let mut index = Port::<u8>::new(0x70);
    let mut data = Port::<u8>::new(0x71);
    // SAFETY: index and data port of the clock chip, which nothing else here uses; reading has no side effect. Bit 7 of
    // the index stays 0, so NMIs stay enabled.
    unsafe {
        index.write(register);
        data.read()
    }
}

/// Seconds since 1970-01-01 UTC, if there is a clock and it shows a date.
pub fn seconds_since_epoch() -> Option<u64> {
    (0..MAX_POLLS).find(|_| read(STATUS_A) & UPDATE_IN_PROGRESS == 0)?;
    // A second may begin between two registers: two equal readings exclude that.
    let first = registers();
    let second = registers();
    let reading = if first == second { second } else { registers() };
    to_epoch(reading, read(STATUS_B))
}

fn registers() -> [u8; 7] {
    [SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR, CENTURY].map(read)
}

fn to_epoch(registers: [u8; 7], mode: u8) -> Option<u64> {
    let number = |value: u8| match mode & BINARY {
        0 if value >> 4 > 9 || value & 0xf > 9 => None,
        0 => Some(u64::from(value >> 4) * 10 + u64::from(value & 0xf)),
        _ => Some(u64::from(value)),
    };
    let [second, minute, hour, day, month, year, century] = registers;
    let hour = match mode & HOURS_24 {
        0 => number(hour & !AFTERNOON)? % 12 + if hour & AFTERNOON != 0 { 12 } else { 0 },
        _ => number(hour)?,
    };
    let (second, minute) = (number(second)?, number(minute)?);
    let (day, month) = (number(day)?, number(month)?);
    let year = number(century).filter(|century| (19..=29).contains(century)).unwrap_or(20) * 100 + number(year)?;
    let sane =
        second < 60 && minute < 60 && hour < 24 && (1..=31).contains(&day) && (1..=12).contains(&month) && year >= 1970;
    sane.then(|| ((days_since_epoch(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. The year is taken to begin in March, so that the leap day
/// comes last and the month lengths follow one formula.
fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_before_month = (153 * month + 2) / 5;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + days_before_month + day - 1;
    /// The same sum for 1970-01-01.
    const EPOCH: u64 = 719_468;
    days - EPOCH
}
