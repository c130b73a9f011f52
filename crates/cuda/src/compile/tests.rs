use super::nvrtc::{Refusal, Target};
use super::*;
use crate::layout::{Layout, Shared};
use crate::testing;
use std::collections::HashSet;

/// A kernel over what the prelude has.
fn small(line: &str) -> String {
    format!(
        "{}\nstruct DoubleArgs {{ float* x; }};\n#line 1 \"double.cu\"\n\
         KERNEL(double_all, DoubleArgs, 32) {{\n    {line}\n}}\n",
        sources::prelude()
    )
}

/// Every source, header and format in the list is there, and every unit has a text of its own with a kernel in it.
#[test]
fn units_are_whole() {
    let mut texts = HashSet::new();
    for unit in sources::units() {
        let text = sources::assemble(unit);
        let own = text.rsplit("#line 1 ").next().unwrap();
        assert!(own.starts_with(&format!("\"{}.cu\"", unit.source.name())), "{unit}: the source comes last");
        assert!(own.contains("KERNEL("), "{unit} has no kernel");
        for (line, kernel) in own.lines().filter_map(|line| Some((line, line.strip_prefix("KERNEL(")?))) {
            let args = kernel.split(", ").nth(1).unwrap();
            assert!(text.contains(&format!("sizeof({args}) ==")), "{unit}: a layout that is not checked: {line}");
        }
        let included = text.lines().filter(|line| line.starts_with("#include")).collect::<Vec<_>>();
        assert_eq!(included.len(), 1, "{unit}: nothing but the emulation is included: {included:?}");
        assert!(texts.insert(text), "{unit} is there twice");
    }
}

/// Compiles for GPUs that the compiler knows and for later ones, and says what it refuses and where.
#[test]
fn nvrtc_compiles() {
    let Some(nvrtc) = testing::nvrtc() else { return };
    let text = small("args.x[threadIdx.x] *= 2;");
    let native = nvrtc.target(Architecture { major: 8, minor: 0 }).unwrap();
    assert_eq!(native, Target::Native(80));
    let image = nvrtc.compile(&text, native, &OPTIONS).unwrap();
    assert!(image.starts_with(b"\x7fELF"));

    if !nvrtc.is_emulated() {
        let later = nvrtc.target(Architecture { major: 99, minor: 9 }).unwrap();
        assert!(matches!(later, Target::Virtual(90..)), "{later}");
        let image = String::from_utf8(nvrtc.compile(&text, later, &OPTIONS).unwrap()).unwrap();
        assert!(image.contains(".entry double_all") && image.ends_with('\0'));
    }

    let Refusal::Log(log) = nvrtc.compile(&small("int x = args.y;"), native, &OPTIONS).unwrap_err() else {
        panic!("the compiler says why");
    };
    assert!(log.contains("double.cu") && log.contains("error"), "{log}");
    let error = Refusal::Log(log).of(Unit { source: Source::Gemv, format: Some(TensorType::Q4_K) });
    assert!(error.to_string().starts_with("kernels of gemv Q4_K do not compile: double.cu"), "{error}");
}

/// Where a struct or a constant differs from Rust's, the kernels do not compile.
#[test]
fn layouts_are_checked() {
    let Some(nvrtc) = testing::nvrtc() else { return };
    let pair = small("") + "struct Pair { int* a; int b, c; };\n";
    let refusal = |asserts: &str| match nvrtc.compile(&(pair.clone() + asserts), Target::Native(80), &OPTIONS) {
        Err(Refusal::Log(log)) => log,
        other => other.map(|_| String::new()).unwrap(),
    };
    let layout = |bytes, fields| Layout { name: "Pair", bytes, fields }.asserts();
    assert_eq!(refusal(&layout(16, &[("a", 8), ("b", 4), ("c", 4)])), "");
    let constant = Shared { file: "double.cu", structs: &[], constants: &[("sizeof(int)", 5)] }.asserts();
    for (asserts, what) in [
        (layout(24, &[("a", 8), ("b", 4), ("c", 4)]), "Pair: 24 bytes in Rust"),
        (layout(16, &[("a", 8), ("b", 8)]), "Pair::b: 8 bytes in Rust"),
        (layout(16, &[("a", 8), ("c", 4), ("b", 4)]), "Pair: c before b in Rust"),
        (layout(16, &[("a", 8), ("d", 4), ("c", 4)]), "d"),
        (constant, "sizeof(int): 5 in Rust"),
    ] {
        let log = refusal(&asserts);
        assert!(log.contains("error") && log.contains(what), "{what}: {log}");
    }
}

/// The contract needs products and sums left apart, and `fmaf` fused.
#[test]
fn products_and_sums_are_not_fused() {
    let Some(nvrtc) = testing::nvrtc().filter(|nvrtc| !nvrtc.is_emulated()) else { return };
    let ptx = |line| {
        let image = nvrtc.compile(&small(line), Target::Virtual(80), &OPTIONS).unwrap();
        String::from_utf8(image).unwrap()
    };
    let apart = ptx("args.x[0] = args.x[1] * args.x[2] + args.x[3] / args.x[4];");
    assert!(apart.contains("mul.rn.f32") && apart.contains("add.rn.f32") && apart.contains("div.rn.f32"), "{apart}");
    assert!(!apart.contains("fma") && !apart.contains("ftz"), "{apart}");
    assert!(ptx("args.x[0] = fmaf(args.x[1], args.x[2], args.x[3]);").contains("fma.rn.f32"));
}
