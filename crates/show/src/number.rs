//! Numbers as people read them.

/// `digits` significant digits: plain from 1e-4 to 1e6, else `1.2e-5`.
pub fn significant(value: f64, digits: usize) -> String {
    if !value.is_finite() || value == 0.0 {
        return plain(value, 0);
    }
    // Rounded first: 0.0999999 has the exponent of 0.1.
    let scientific = format!("{value:.*e}", digits.saturating_sub(1));
    let exponent: i32 = scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    if (-4..6).contains(&exponent) { plain(value, (digits as i32 - 1 - exponent).max(0) as usize) } else { scientific }
}

/// With this many decimals; infinities and NaN by name.
pub fn plain(value: f64, decimals: usize) -> String {
    if value.is_nan() {
        "nan".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "inf" } else { "-inf" }.to_owned()
    } else {
        format!("{value:.decimals$}")
    }
}

/// With a sign, for differences. A value that rounds to zero has no sign.
pub fn signed(value: f64, decimals: usize) -> String {
    with_sign(value, plain(value, decimals))
}

/// The value of a metric: an accuracy, or a perplexity of any size.
pub fn metric(value: f64) -> String {
    as_precise_as(value, value)
}

/// The error of the `value` of a metric, or of a difference between two: with no more decimals than the value has.
pub fn as_precise_as(value: f64, error: f64) -> String {
    match value.abs() {
        ..1e4 if error.abs() < 1e6 => plain(error, 4),
        ..1e6 if error.abs() < 1e6 => plain(error, 0),
        _ => significant(error, 5),
    }
}

/// The difference from another model's `value` of a metric.
pub fn change(value: f64, difference: f64) -> String {
    with_sign(difference, as_precise_as(value, difference))
}

fn with_sign(value: f64, text: String) -> String {
    let is_zero = text.bytes().all(|b| matches!(b, b'-' | b'0' | b'.'));
    match (is_zero, value > 0.0) {
        (true, _) => text.trim_start_matches('-').to_owned(),
        (false, true) => format!("+{text}"),
        (false, false) => text,
    }
}

/// Tokens per second, with enough digits to show a difference of one percent.
pub fn rate(value: f64) -> String {
    plain(value, if value.abs() < 100.0 { 1 } else { 0 })
}

/// A size in decimal units, as model hubs give it: `13.8 MB`.
pub fn bytes(value: u64) -> String {
    let value = value as f64;
    match value {
        1e9.. => format!("{:.2} GB", value / 1e9),
        1e6.. => format!("{:.1} MB", value / 1e6),
        1e3.. => format!("{:.1} kB", value / 1e3),
        _ => format!("{value} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_no_more_precise_than_what_they_are_of() {
        for (value, difference, texts) in [
            (0.4833, -0.00666, ["0.4833", "-0.0067"]),
            (30.858_04, 0.000_04, ["30.8580", "0.0000"]),
            (13_950.4, 3293.2, ["13950", "+3293"]),
            (2.5e7, -12.25, ["2.5000e7", "-12.250"]),
            (30.0, 4e8, ["30.0000", "+4.0000e8"]),
        ] {
            assert_eq!([metric(value), change(value, difference)], texts);
        }
        assert_eq!((as_precise_as(17_243.0, 3496.58), metric(f64::NAN)), ("3497".to_owned(), "nan".to_owned()));
    }

    #[test]
    fn significant_digits() {
        for (value, want) in [
            (0.0, "0"),
            (0.00834512, "0.00835"),
            (0.13, "0.130"),
            (0.000099999, "0.000100"),
            (0.0000123, "1.23e-5"),
            (28.5795, "28.6"),
            (120.0, "120"),
            (1234567.0, "1.23e6"),
            (-0.05, "-0.0500"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(significant(value, 3), want);
        }
    }

    #[test]
    fn differences_have_a_sign_unless_they_round_to_zero() {
        assert_eq!(signed(0.25, 2), "+0.25");
        assert_eq!(signed(-0.25, 2), "-0.25");
        assert_eq!(signed(-0.0001, 2), "0.00");
        assert_eq!(signed(f64::INFINITY, 2), "+inf");
        assert_eq!(signed(f64::NAN, 2), "nan");
    }

    #[test]
    fn sizes_are_decimal() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(13_846_400), "13.8 MB");
        assert_eq!(bytes(2_800_000_000), "2.80 GB");
    }
}
