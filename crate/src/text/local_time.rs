//! The date as templates ask for it: Python's `datetime.now().strftime(format)` in the C locale.

use std::fmt::Write;

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// Days before each month of a year that is no leap year.
const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
const DAY: i64 = 86_400;

/// Most bytes of a format; templates use some ten.
const LONGEST: usize = 256;

/// A date and time of the clock on the wall: seconds since 1970-01-01 00:00 on that clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime(pub i64);

/// What a format cannot say.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum FormatError {
    #[error("strftime_now does not know %{0}")]
    Code(String),
    #[error("the format of strftime_now has more than {LONGEST} bytes")]
    Long,
}

impl LocalTime {
    /// Now: in a browser in the user's time zone, natively in UTC.
    pub fn now() -> Self {
        #[cfg(target_arch = "wasm32")]
        {
            let now = js_sys::Date::new_0();
            Self((now.get_time() / 1000.0 - now.get_timezone_offset() * 60.0).floor() as i64)
        }
        #[cfg(not(target_arch = "wasm32"))]
        {
            let since = web_time::SystemTime::now().duration_since(web_time::SystemTime::UNIX_EPOCH);
            Self(since.map_or(0, |since| since.as_secs() as i64))
        }
    }

    /// The time in this format.
    pub(super) fn format(self, format: &str) -> Result<String, FormatError> {
        if format.len() > LONGEST {
            return Err(FormatError::Long);
        }
        let fields = Fields::of(self);
        let mut out = String::new();
        let mut rest = format.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let code = rest.next();
            // glibc's flag for a number without leading zeros.
            let (bare, code) = if code == Some('-') { (true, rest.next()) } else { (false, code) };
            fields.write(code, bare, &mut out).ok_or_else(|| {
                let flag = if bare { "-" } else { "" };
                FormatError::Code(format!("{flag}{}", code.map_or(String::new(), String::from)))
            })?;
        }
        Ok(out)
    }
}

/// The parts of a time.
struct Fields {
    year: i64,
    /// From 0.
    month: usize,
    day: i64,
    /// From 0, Sunday.
    weekday: usize,
    /// From 1.
    yearday: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Fields {
    fn of(LocalTime(time): LocalTime) -> Self {
        let (days, seconds) = (time.div_euclid(DAY), time.rem_euclid(DAY));
        let mut year = 1970 + days.div_euclid(366);
        while first_day(year + 1) <= days {
            year += 1;
        }
        while first_day(year) > days {
            year -= 1;
        }
        let yearday = days - first_day(year);
        let starts = |month: usize| BEFORE[month] + i64::from(month > 1 && leap(year));
        let month = (0..12).rev().find(|&month| starts(month) <= yearday).unwrap_or(0);
        Self {
            year,
            month,
            day: yearday - starts(month) + 1,
            weekday: (days + 4).rem_euclid(7) as usize,
            yearday: yearday + 1,
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }

    fn write(&self, code: Option<char>, bare: bool, out: &mut String) -> Option<()> {
        let hour12 = (self.hour + 11) % 12 + 1;
        let (number, width) = match code? {
            'Y' => (self.year, 1),
            'y' => (self.year.rem_euclid(100), 2),
            'm' => (self.month as i64 + 1, 2),
            'd' => (self.day, 2),
            'H' => (self.hour, 2),
            'I' => (hour12, 2),
            'M' => (self.minute, 2),
            'S' => (self.second, 2),
            'j' => (self.yearday, 3),
            _ if bare => return None,
            code => return self.write_text(code, out),
        };
        let width = if bare { 1 } else { width };
        write!(out, "{number:0width$}").ok()
    }

    fn write_text(&self, code: char, out: &mut String) -> Option<()> {
        let (day, month) = (DAYS[self.weekday], MONTHS[self.month]);
        let Self { year, hour, minute, second, .. } = self;
        let (short, number) = (year.rem_euclid(100), self.month + 1);
        match code {
            'A' => out.push_str(day),
            'a' => out.push_str(&day[..3]),
            'B' => out.push_str(month),
            'b' | 'h' => out.push_str(&month[..3]),
            'p' => out.push_str(if *hour < 12 { "AM" } else { "PM" }),
            'w' => write!(out, "{}", self.weekday).ok()?,
            'e' => write!(out, "{:2}", self.day).ok()?,
            'F' => write!(out, "{year}-{number:02}-{:02}", self.day).ok()?,
            'D' | 'x' => write!(out, "{number:02}/{:02}/{short:02}", self.day).ok()?,
            'T' | 'X' => write!(out, "{hour:02}:{minute:02}:{second:02}").ok()?,
            'R' => write!(out, "{hour:02}:{minute:02}").ok()?,
            'c' => {
                let (day, month) = (&day[..3], &month[..3]);
                write!(out, "{day} {month} {:2} {hour:02}:{minute:02}:{second:02} {year}", self.day).ok()?;
            }
            // A time without a zone has none to tell.
            'z' | 'Z' => {}
            '%' => out.push('%'),
            _ => return None,
        }
        Some(())
    }
}

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// The days from 1970-01-01 to the first of January of a year.
fn first_day(year: i64) -> i64 {
    let before = year - 1;
    let leaps = before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400);
    (year - 1970) * 365 + leaps - 477
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_python_does() {
        // Python: datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None).strftime(format)
        for (seconds, format, expected) in [
            (0, "%A, %d %B %Y %H:%M:%S", "Thursday, 01 January 1970 00:00:00"),
            (951_782_400, "%d %b %Y|%j|%a|%w", "29 Feb 2000|060|Tue|2"),
            (1_721_952_000, "%d %b %Y", "26 Jul 2024"),
            (1_735_689_599, "%B %d, %Y %I:%M %p", "December 31, 2024 11:59 PM"),
            (1_735_689_600, "%-d.%-m.%y %-I%p|%e|%-j", "1.1.25 12AM| 1|1"),
            (4_107_542_399, "%Y-%m-%d = %F, %D, %T, %R", "2100-02-28 = 2100-02-28, 02/28/00, 23:59:59, 23:59"),
            (4_107_542_400, "%c", "Mon Mar  1 00:00:00 2100"),
            (-1, "%x %X%z%Z %%", "12/31/69 23:59:59 %"),
        ] {
            assert_eq!(LocalTime(seconds).format(format).as_deref(), Ok(expected), "{seconds} {format}");
        }
    }

    #[test]
    fn what_it_does_not_know_is_an_error() {
        for (format, code) in [("%Q", "Q"), ("%", ""), ("%-", "-"), ("%-A", "-A"), ("%U", "U")] {
            assert_eq!(LocalTime(0).format(format), Err(FormatError::Code(code.into())), "{format}");
        }
        assert_eq!(LocalTime(0).format(&"%A".repeat(200)), Err(FormatError::Long));
    }

    #[test]
    fn now_is_of_this_age() {
        assert!(LocalTime::now().format("%Y").unwrap().parse::<i64>().unwrap() >= 2025);
    }
}
