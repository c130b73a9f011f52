//! Generates constant tables for kernels from the lists of `pythia_tensor`, so that they exist only once.
//!
//! An entry of a grid is one word, its first element in the lowest byte.

use pythia_tensor::{TensorType, blocks, grid};

/// The tables of a format: `IQ2_XXS_GRID` and the like, `IQ4_LEVELS`.
pub(super) fn of(format: TensorType) -> Option<String> {
    match format {
        TensorType::IQ2_XXS => Some(eights("IQ2_XXS_GRID", &grid::IQ2_XXS)),
        TensorType::IQ2_XS => Some(eights("IQ2_XS_GRID", &grid::IQ2_XS)),
        TensorType::IQ2_S => Some(eights("IQ2_S_GRID", &grid::IQ2_S)),
        TensorType::IQ3_XXS => Some(fours("IQ3_XXS_GRID", &grid::IQ3_XXS)),
        TensorType::IQ3_S => Some(fours("IQ3_S_GRID", &grid::IQ3_S)),
        TensorType::IQ4_NL | TensorType::IQ4_XS => {
            Some(table("int8_t", "IQ4_LEVELS", blocks::LEVELS.iter().map(ToString::to_string)))
        }
        _ => None,
    }
}

fn eights(name: &str, entries: &[[u8; 8]]) -> String {
    table("uint64_t", name, entries.iter().map(|&entry| format!("{:#018x}ull", u64::from_le_bytes(entry))))
}

fn fours(name: &str, entries: &[[u8; 4]]) -> String {
    table("uint32_t", name, entries.iter().map(|&entry| format!("{:#010x}u", u32::from_le_bytes(entry))))
}

fn table(ty: &str, name: &str, entries: impl ExactSizeIterator<Item = String>) -> String {
    let n = entries.len();
    let lines: Vec<_> = entries.collect::<Vec<_>>().chunks(4).map(|entries| entries.join(", ")).collect();
    format!("__device__ const {ty} {name}[{n}] = {{\n    {},\n}};\n", lines.join(",\n    "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of a table's entries, read back from its text.
    fn bytes(format: TensorType, word: usize) -> (String, Vec<u8>) {
        let text = of(format).unwrap();
        let (head, entries) = text.split_once('{').unwrap();
        let entries = entries.split_once('}').unwrap().0.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let number = |entry: &str| {
            let digits = entry.trim_end_matches(['u', 'l']);
            match digits.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
                None => digits.parse::<i64>().unwrap() as u64,
            }
        };
        (head.trim().to_owned(), entries.flat_map(|entry| number(entry).to_le_bytes()[..word].to_vec()).collect())
    }

    #[test]
    fn tables_are_those_of_the_formats() {
        let check = |format, head: &str, word, wanted: Vec<u8>| {
            let (found_head, found) = bytes(format, word);
            assert_eq!(found_head, format!("__device__ const {head} ="), "{format}");
            assert!(found == wanted, "{format}");
        };
        check(TensorType::IQ2_XXS, "uint64_t IQ2_XXS_GRID[256]", 8, grid::IQ2_XXS.concat());
        check(TensorType::IQ2_XS, "uint64_t IQ2_XS_GRID[512]", 8, grid::IQ2_XS.concat());
        check(TensorType::IQ2_S, "uint64_t IQ2_S_GRID[1024]", 8, grid::IQ2_S.concat());
        check(TensorType::IQ3_XXS, "uint32_t IQ3_XXS_GRID[256]", 4, grid::IQ3_XXS.concat());
        check(TensorType::IQ3_S, "uint32_t IQ3_S_GRID[512]", 4, grid::IQ3_S.concat());
        for format in [TensorType::IQ4_NL, TensorType::IQ4_XS] {
            let levels = blocks::LEVELS.iter().map(|&level| level as u8).collect();
            check(format, "int8_t IQ4_LEVELS[16]", 1, levels);
        }
        assert!(of(TensorType::Q4_K).is_none());
    }
}
