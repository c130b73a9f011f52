//! Sizes in bytes on a command line.

/// For clap: the largest size of a file in bytes, exact. K, M and G are powers of ten, as in llama.cpp's `gguf-split`.
pub(crate) fn parse_file_size(text: &str) -> Result<u64, String> {
    const UNITS: [(char, u64); 3] = [('K', 1000), ('M', 1_000_000), ('G', 1_000_000_000)];
    let unit = UNITS.into_iter().find(|(unit, _)| text.ends_with([*unit, unit.to_ascii_lowercase()]));
    let (number, factor) = unit.map_or((text, 1), |(_, factor)| (&text[..text.len() - 1], factor));
    // `parse` accepts a sign.
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    let size = number.parse::<u64>().ok().filter(|_| is_number).and_then(|number| number.checked_mul(factor));
    size.filter(|&size| size > 0).ok_or_else(|| format!("found '{text}', wanted a size, such as 500M or 2G"))
}

/// For clap: a size of memory in bytes, possibly a fraction of a unit. `4G` and `4GB` are powers of ten, `4GiB` is a power
/// of two.
pub(crate) fn parse_memory_size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, i32); 4] = [("k", 1), ("m", 2), ("g", 3), ("t", 4)];
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let factor = match unit.trim() {
        "" | "b" => Some(1.0),
        unit => UNITS.iter().find_map(|(letter, power)| match unit.strip_prefix(letter)? {
            "" | "b" => Some(1000f64.powi(*power)),
            "i" | "ib" => Some(1024f64.powi(*power)),
            _ => None,
        }),
    };
    let size = number.parse::<f64>().ok().zip(factor).map(|(number, factor)| number * factor);
    let size = size.filter(|&size| (1.0..=1e18).contains(&size));
    size.map(|size| size as u64).ok_or_else(|| format!("found '{text}', wanted a size, such as 4G, 4GiB or 512M"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_files_are_exact_powers_of_ten() {
        let sizes = ["1", "20K", "500M", "2G", "3g", "18446744073709551615"].map(|text| parse_file_size(text).ok());
        let wanted = [1, 20_000, 500_000_000, 2_000_000_000, 3_000_000_000, u64::MAX];
        assert_eq!(sizes, wanted.map(Some));
        for text in ["", "0", "0G", "M", "-1M", "+1M", "1.5G", "2T", "2GB", "2 G", "18446744073709551615K", "\u{20ac}"]
        {
            assert!(parse_file_size(text).unwrap_err().contains(text), "{text}");
        }
    }

    #[test]
    fn sizes_of_memory_are_read_as_people_write_them() {
        for (text, want) in [
            ("4G", 4_000_000_000),
            ("4GB", 4_000_000_000),
            ("4gb", 4_000_000_000),
            ("4GiB", 4 << 30),
            ("4Gi", 4 << 30),
            ("1.5G", 1_500_000_000),
            ("512M", 512_000_000),
            ("512 MiB", 512 << 20),
            ("800k", 800_000),
            ("20K", 20_000),
            ("1T", 1_000_000_000_000),
            ("123", 123),
        ] {
            assert_eq!(parse_memory_size(text), Ok(want), "{text}");
        }
        for text in
            ["", "G", "0", "0G", "-4G", "+1M", "4X", "4GBB", "1e3G", "4G8", "nan", "9999999T", "4.0.0G", "4\u{20ac}"]
        {
            assert!(parse_memory_size(text).unwrap_err().contains(text), "{text}");
        }
    }
}
