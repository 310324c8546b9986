//! Durations and sizes as operators write them.

use std::time::Duration;

/// Reads `"250ms"`, `"30s"`, `"10m"`, `"1h"`, `"7d"`, or several in a row: `"1h30m"`.
pub fn duration(text: &str) -> Option<Duration> {
    let millis = sum(text, |unit| match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" | "min" => Some(60 * 1000),
        "h" => Some(60 * 60 * 1000),
        "d" => Some(24 * 60 * 60 * 1000),
        _ => None,
    })?;
    Some(Duration::from_millis(millis))
}

/// Reads `"512B"`, `"64KiB"`, `"4MiB"` or `"1GiB"` as bytes.
pub fn size(text: &str) -> Option<u64> {
    sum(text, |unit| match unit {
        "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    })
}

/// Writes a duration so that [`duration`] reads it back, in the largest whole unit.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(24 * 60 * 60 * 1000, "d"), (60 * 60 * 1000, "h"), (60 * 1000, "m"), (1000, "s")];
    match units.iter().find(|(factor, _)| millis > 0 && millis.is_multiple_of(*factor)) {
        Some((factor, unit)) => format!("{}{unit}", millis / factor),
        None => format!("{millis}ms"),
    }
}

/// Writes a size so that [`size`] reads it back, in the largest whole unit.
pub fn show_size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(factor, _)| bytes > 0 && bytes.is_multiple_of(*factor)) {
        Some((factor, unit)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

fn sum(text: &str, factor: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(factor(unit)?)?)?;
        rest = next.trim_start();
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_unit() {
        for (text, millis) in
            [("250ms", 250), ("30s", 30_000), ("10m", 600_000), ("1h", 3_600_000), ("7d", 604_800_000), ("1h30m", 5_400_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "30", "s", "30 seconds", "1.5h", "-1s", "99999999999999999999s", "9999999999999d"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_in_every_unit() {
        for (text, bytes) in [("512B", 512), ("64KiB", 65_536), ("4MiB", 4 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["4", "4MB", "4 megabytes", "-4MiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for millis in [0, 1, 250, 1500, 30_000, 90_000, 3_600_000, 604_800_000] {
            let span = Duration::from_millis(millis);
            assert_eq!(duration(&show_duration(span)), Some(span));
        }
        for bytes in [0, 1, 1024, 1500, 4 << 20, 3 << 30] {
            assert_eq!(size(&show_size(bytes)), Some(bytes));
        }
    }
}
