//! The date for templates that ask for it, as Python's `strftime` writes it, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

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
const DAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];

/// The current time in `format`; unknown conversions stay as they are.
pub(super) fn strftime_now(format: &str) -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    strftime(format, seconds)
}

/// `unix_seconds` in `format`.
fn strftime(format: &str, unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let (year, month, day) = civil_date(days);
    let month_name = MONTHS[month as usize - 1];
    let day_name = DAYS[(days % 7) as usize];
    let hour = second / 3600;
    let mut text = String::with_capacity(format.len() * 2);
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('Y') => text += &year.to_string(),
            Some('y') => text += &format!("{:02}", year % 100),
            Some('m') => text += &format!("{month:02}"),
            Some('d') => text += &format!("{day:02}"),
            Some('B') => text += month_name,
            Some('b') => text += &month_name[..3],
            Some('A') => text += day_name,
            Some('a') => text += &day_name[..3],
            Some('H') => text += &format!("{hour:02}"),
            Some('I') => text += &format!("{:02}", (hour + 11) % 12 + 1),
            Some('M') => text += &format!("{:02}", second / 60 % 60),
            Some('S') => text += &format!("{:02}", second % 60),
            Some('p') => text += if hour < 12 { "AM" } else { "PM" },
            Some('F') => text += &format!("{year}-{month:02}-{day:02}"),
            Some('%') => text.push('%'),
            Some(other) => text.extend(['%', other]),
            None => text.push('%'),
        }
    }
    text
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar.
fn civil_date(days: u64) -> (u64, u64, u64) {
    // Years that begin in March put the leap day last; 719 468 days lie between 0000-03-01 and
    // 1970-01-01, 146 097 in 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months of 153 days in five, counted from March.
    let month = (5 * day + 2) / 153;
    let first_of_month = (153 * month + 2) / 5;
    let year = era * 400 + year + u64::from(month >= 10);
    (
        year,
        if month < 10 { month + 3 } else { month - 9 },
        day - first_of_month + 1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_python() {
        let cases = [
            (0, "1970-01-01 Thursday 12 AM 70"),
            (951_782_400, "2000-02-29 Tuesday 12 AM 00"),
            (1_709_251_199, "2024-02-29 Thursday 11 PM 24"),
            (4_107_542_399, "2100-02-28 Sunday 11 PM 00"),
            (4_107_542_400, "2100-03-01 Monday 12 AM 00"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(strftime("%Y-%m-%d %A %I %p %y", seconds), expected);
        }
        assert_eq!(
            strftime("%d %b %Y, %H:%M:%S 100%% %q%", 1_709_251_199),
            "29 Feb 2024, 23:59:59 100% %q%"
        );
    }
}
