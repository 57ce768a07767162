//! Times: in microseconds, as they travel; in words, as people read them.

use std::time::{Duration, SystemTime};

/// Now, in microseconds since the UNIX epoch on this machine's clock; 0 before it.
pub(crate) fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, micros)
}

/// A duration in whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A duration as it stands in a sentence: `500 ms`, `2.5 s`, `600 s`. However short, it is not told as 0 s.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    // What would be rounded to a second is one.
    if seconds < 0.9995 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    let tenths = match seconds < 100.0 {
        true => format!("{seconds:.1}"),
        false => format!("{seconds:.0}"),
    };
    format!("{} s", tenths.strip_suffix(".0").unwrap_or(&tenths))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_are_told_in_milliseconds_and_long_ones_in_seconds() {
        for (ms, text) in [
            (0.0, "0 ms"),
            (500.0, "500 ms"),
            (999.7, "1 s"),
            (1_000.0, "1 s"),
            (2_540.0, "2.5 s"),
            (60_000.0, "60 s"),
            (600_400.0, "600 s"),
        ] {
            assert_eq!(show_duration(Duration::from_secs_f64(ms / 1e3)), text);
        }
    }
}
