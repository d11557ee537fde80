//! Seconds since 1970 as a date.

use core::fmt;

/// Shows seconds since 1970-01-01 UTC as `2026-11-22 13:45:07`; with precision 0 (`{:.0}`) without the seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date(pub i64);

/// Days of 400 Gregorian years, after which the calendar repeats.
const DAYS_OF_400_YEARS: i64 = 146_097;
/// From 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_1970: i64 = 719_468;

impl fmt::Display for Date {
    /// Years are taken to begin in March, so that the leap day is the last one: then month and day follow from the day of the
    /// year by division alone (153 days are five months, from March on, of 31, 30, 31, 30, 31 days).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.0.div_euclid(86_400) + DAYS_BEFORE_1970;
        let second = self.0.rem_euclid(86_400);
        let (cycle, day) = (days.div_euclid(DAYS_OF_400_YEARS), days.rem_euclid(DAYS_OF_400_YEARS));
        // Without leap days, of which there is one in 4 years but not in 100 and yet in 400, each year has 365 days.
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (year * 365 + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
        let year = cycle * 400 + year;
        write!(f, "{year:04}-{month:02}-{day:02} {:02}:{:02}", second / 3_600, second / 60 % 60)?;
        if f.precision() == Some(0) { Ok(()) } else { write!(f, ":{:02}", second % 60) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn dates_as_date_shows_them() {
        // Each from `date -u -d @SECONDS '+%F %T'`.
        for (seconds, date) in [
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_800, "2000-03-01 00:00:00"),
            (4_107_542_399, "2100-02-28 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (1_795_355_107, "2026-11-22 13:45:07"),
            (-2_203_891_200, "1900-03-01 00:00:00"),
        ] {
            assert_eq!(format!("{}", Date(seconds)), date, "{seconds}");
        }
        assert_eq!(format!("{:.0}", Date(59)), "1970-01-01 00:00");
    }

    #[test]
    fn a_day_is_followed_by_the_next() {
        let mut before = format!("{:.0}", Date(-86_400 * 200_000));
        for day in -199_999..200_000 {
            let date = format!("{:.0}", Date(86_400 * day));
            let next = |text: &str| -> (i64, i64, i64) {
                let number = |part: Option<&str>| part.and_then(|part| part.parse().ok()).expect("a number");
                let mut parts = text.split_once(' ').expect("a date and a time").0.rsplitn(3, '-');
                let (day, month, year) = (number(parts.next()), number(parts.next()), number(parts.next()));
                (year, month, day)
            };
            let ((y, m, d), now) = (next(&before), next(&date));
            assert!(
                now == (y, m, d + 1) || now == (y, m + 1, 1) && d >= 28 || now == (y + 1, 1, 1) && (m, d) == (12, 31),
                "{before} {date}"
            );
            before = date;
        }
    }

    #[test]
    fn no_number_is_too_much() {
        for seconds in [i64::MIN, i64::MAX] {
            assert!(!format!("{}", Date(seconds)).is_empty());
        }
    }
}
