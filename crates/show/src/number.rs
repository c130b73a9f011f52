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
    let text = plain(value, decimals);
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
