//! Durations and sizes as people write them.

use std::time::Duration;

/// `"90s"`, `"15m"`, `"1h30m"`, `"500ms"`, `"7d"`, `"1.5h"`, or digits alone for seconds.
/// Each unit at most once, from the largest to the smallest.
pub fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 6] =
        [("w", 604_800.0), ("d", 86_400.0), ("h", 3_600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001)];
    let mut rest = text.trim();
    if !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return rest.parse().ok().map(Duration::from_secs).map(bounded);
    }
    let mut seconds = 0.0;
    let mut allowed = UNITS.as_slice();
    while !rest.is_empty() {
        let (value, after) = split_number(rest)?;
        let end = after.find(|character: char| !character.is_ascii_alphabetic()).unwrap_or(after.len());
        let index = allowed.iter().position(|(name, _)| *name == &after[..end])?;
        seconds += value * allowed[index].1;
        allowed = &allowed[index + 1..];
        rest = after[end..].trim_start();
    }
    if seconds > 0.0 { Duration::try_from_secs_f64(seconds).ok().map(bounded) } else { None }
}

/// `"0"`, `"0s"`, `"0d"`: no time at all.
pub fn is_zero(text: &str) -> bool {
    matches!(text.trim(), "0" | "0w" | "0d" | "0h" | "0m" | "0s" | "0ms")
}

/// What is longer than anything lasts is a time that others can be added to: a sum of two that overflows ends whoever
/// adds them.
pub fn bounded(duration: Duration) -> Duration {
    const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);
    duration.min(LONGEST)
}

/// `"4MiB"`, `"1GiB"`, `"512Mi"`, `"10MB"` (powers of ten) or digits alone for bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let (value, unit) = split_number(text.trim())?;
    let factor: f64 = match unit.trim_start() {
        "" | "B" => 1.0,
        "KiB" | "Ki" => 1024.0,
        "MiB" | "Mi" => 1024.0 * 1024.0,
        "GiB" | "Gi" => 1024.0 * 1024.0 * 1024.0,
        "TiB" | "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        "KB" | "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        _ => return None,
    };
    let bytes = value * factor;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in 0..2^53 and whole")]
    (bytes < 9_007_199_254_740_992.0 && bytes.fract() == 0.0).then_some(bytes as u64)
}

/// The number at the start (digits, at most one point) and the rest.
fn split_number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    if !text.starts_with(|character: char| character.is_ascii_digit()) || text[..end].ends_with('.') {
        return None;
    }
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// `1h30m`, `15m`, `90s` as `15m`, `1m30s`; below a second `500ms`.
pub fn show_duration(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    if rest == 0 {
        return format!("{}ms", duration.as_millis());
    }
    let mut text = String::new();
    for (unit, length) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        if rest / length > 0 {
            text.extend([(rest / length).to_string().as_str(), unit]);
            rest %= length;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("120s", 120.0),
            ("15m", 900.0),
            ("1h30m", 5400.0),
            ("30", 30.0),
            ("500ms", 0.5),
            ("1.5h", 5400.0),
            ("7d", 604_800.0),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_secs_f64(seconds)), "{text}");
        }
        for endless in ["18446744073709551615", "9999999999w"] {
            let sum = parse_duration(endless).unwrap() + Duration::from_secs(1);
            assert!(std::time::Instant::now().checked_add(sum).is_some(), "{endless}");
        }
        for text in ["", "s", "1x", "-5s", "1m1h", "1m1m", "1.", "0s", "1e5s", "99999999999999999999w"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(show_duration(Duration::from_secs(5400)), "1h30m");
        assert_eq!(show_duration(Duration::from_millis(20)), "20ms");
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("4MiB", 4 << 20),
            ("1GiB", 1 << 30),
            ("512", 512),
            ("10 MB", 10_000_000),
            ("1.5KiB", 1536),
            ("256Mi", 256 << 20),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "1Zb", "-1", "1.2.3MiB", "0.3B", "99999999TiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
