//! Structs and constants that Rust and the kernels share. They are declared on both sides; the compiler of the kernels
//! checks that both are the same.

use std::fmt::Write as _;

/// How a struct lies in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Its name, on both sides.
    pub(crate) name: &'static str,
    /// Its size.
    pub(crate) bytes: usize,
    /// Each field's name and size, in order.
    pub(crate) fields: &'static [(&'static str, usize)],
}

/// What a file of `kernels/` and Rust both declare.
pub(crate) struct Shared {
    /// The file.
    pub(crate) file: &'static str,
    /// Its structs.
    pub(crate) structs: &'static [Layout],
    /// Its constants, and their values in Rust.
    pub(crate) constants: &'static [(&'static str, usize)],
}

impl Layout {
    /// Assertions in C++ that its struct lies so. NVRTC 12 has no `offsetof`; but where the fields come in the same order
    /// and fill the struct, their sizes are their offsets.
    pub(crate) fn asserts(&self) -> String {
        let &Self { name, bytes, fields } = self;
        let mut text = format!("static_assert(sizeof({name}) == {bytes}, \"{name}: {bytes} bytes in Rust\");\n");
        for (field, bytes) in fields {
            let (size, says) = (format!("sizeof({name}::{field})"), format!("{name}::{field}: {bytes} bytes in Rust"));
            writeln!(text, "static_assert({size} == {bytes}, \"{says}\");").unwrap();
        }
        writeln!(text, "constexpr {name} rust_{name}{{}};").unwrap();
        for pair in fields.windows(2) {
            let [(a, _), (b, _)] = pair else { continue };
            let [first, second] = [a, b].map(|field| format!("(const void*)&rust_{name}.{field}"));
            writeln!(text, "static_assert({first} < {second}, \"{name}: {a} before {b} in Rust\");").unwrap();
        }
        text
    }
}

impl Shared {
    /// Assertions in C++ that its structs and constants are so.
    pub(crate) fn asserts(&self) -> String {
        let structs = self.structs.iter().map(Layout::asserts);
        let constants = self.constants.iter();
        let constants = constants.map(|(of, is)| format!("static_assert({of} == {is}, \"{of}: {is} in Rust\");\n"));
        structs.chain(constants).collect()
    }
}

/// Declares structs that kernels read, with a `LAYOUT`. They may be arguments of a kernel.
macro_rules! shared_structs {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident { $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $ty:ty,)* }
    )*) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        $vis struct $name { $($(#[$field_meta])* $field_vis $field: $ty,)* }

        // The driver copies all bytes, and sizes stand for offsets.
        const _: () = assert!(0 $(+ size_of::<$ty>())* == size_of::<$name>(), "no padding");

        // SAFETY: no padding; the compiler of the kernels checks the layout, see `Shared`.
        unsafe impl $crate::device::Args for $name {
            const LAYOUT: $crate::layout::Layout = $crate::layout::Layout {
                name: stringify!($name),
                bytes: size_of::<$name>(),
                fields: &[$((stringify!($field), size_of::<$ty>()),)*],
            };
        }
    )* };
}
pub(crate) use shared_structs;
