//! Metadata values.

use crate::error::quoted;

/// Calls `$callback! { rows }` with a row per numeric value type: `Variant, Rust type, GGUF id`.
macro_rules! for_each_number {
    ($callback:ident) => {
        $callback! {
            (U8, u8, 0),
            (I8, i8, 1),
            (U16, u16, 2),
            (I16, i16, 3),
            (U32, u32, 4),
            (I32, i32, 5),
            (F32, f32, 6),
            (U64, u64, 10),
            (I64, i64, 11),
            (F64, f64, 12),
        }
    };
}
pub(crate) use for_each_number;

/// GGUF ids of the value types that are not numbers.
pub(crate) const BOOL_ID: u32 = 7;
pub(crate) const STRING_ID: u32 = 8;
pub(crate) const ARRAY_ID: u32 = 9;

macro_rules! define_values {
    ($(($variant:ident, $t:ident, $id:literal),)*) => {
        /// A metadata value.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Value {
            $(#[doc = concat!("An `", stringify!($t), "`.")] $variant($t),)*
            /// A truth value, stored as one byte of 0 or 1.
            Bool(bool),
            /// UTF-8 text.
            String(String),
            /// Values of one type.
            Array(Array),
        }

        /// An array of values of one type. Arrays of arrays, which GGUF allows but nothing uses, are refused.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Array {
            $(#[doc = concat!("Of `", stringify!($t), "`.")] $variant(Vec<$t>),)*
            /// Of truth values.
            Bool(Vec<bool>),
            /// Of texts.
            String(Vec<String>),
        }

        impl Value {
            /// The GGUF id of its type.
            pub(crate) fn type_id(&self) -> u32 {
                match self {
                    $(Self::$variant(_) => $id,)*
                    Self::Bool(_) => BOOL_ID,
                    Self::String(_) => STRING_ID,
                    Self::Array(_) => ARRAY_ID,
                }
            }

            /// Name of its type: `u32`, `bool`, `string`, `array of f32`.
            pub fn type_name(&self) -> String {
                match self {
                    $(Self::$variant(_) => stringify!($t).to_owned(),)*
                    Self::Bool(_) => "bool".to_owned(),
                    Self::String(_) => "string".to_owned(),
                    Self::Array(array) => format!("array of {}", array.element_name()),
                }
            }
        }

        impl Array {
            /// The GGUF id of its elements' type.
            pub(crate) fn element_id(&self) -> u32 {
                match self {
                    $(Self::$variant(_) => $id,)*
                    Self::Bool(_) => BOOL_ID,
                    Self::String(_) => STRING_ID,
                }
            }

            /// Name of its elements' type: `u32`, `bool`, `string`.
            pub fn element_name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => stringify!($t),)*
                    Self::Bool(_) => "bool",
                    Self::String(_) => "string",
                }
            }

            /// Number of elements.
            pub fn len(&self) -> usize {
                match self {
                    $(Self::$variant(v) => v.len(),)*
                    Self::Bool(v) => v.len(),
                    Self::String(v) => v.len(),
                }
            }

            /// The element at `index`, as a value of its own.
            pub fn get(&self, index: usize) -> Option<Value> {
                match self {
                    $(Self::$variant(v) => v.get(index).map(|&v| Value::$variant(v)),)*
                    Self::Bool(v) => v.get(index).map(|&v| Value::Bool(v)),
                    Self::String(v) => v.get(index).map(|v| Value::String(v.clone())),
                }
            }
        }

        $(
            impl From<$t> for Value {
                fn from(v: $t) -> Self {
                    Self::$variant(v)
                }
            }

            impl From<Vec<$t>> for Value {
                fn from(v: Vec<$t>) -> Self {
                    Self::Array(Array::$variant(v))
                }
            }
        )*
    };
}
for_each_number!(define_values);

impl Value {
    /// The value, if it is an integer of any width.
    pub fn integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(v) => v.into(),
            Self::I8(v) => v.into(),
            Self::U16(v) => v.into(),
            Self::I16(v) => v.into(),
            Self::U32(v) => v.into(),
            Self::I32(v) => v.into(),
            Self::U64(v) => v.into(),
            Self::I64(v) => v.into(),
            _ => return None,
        })
    }

    /// The value for a message: its type, and the value itself if it is short.
    pub fn describe(&self) -> String {
        match self {
            Self::String(v) => format!("string {}", quoted(v)),
            Self::Array(v) => format!("array of {} {}", v.len(), v.element_name()),
            Self::Bool(v) => format!("bool {v}"),
            Self::F32(v) => format!("f32 {v}"),
            Self::F64(v) => format!("f64 {v}"),
            _ => format!("{} {}", self.type_name(), self.integer().expect("the other variants are above")),
        }
    }
}

impl Array {
    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as i32, if they are integers that fit, of any width.
    pub(crate) fn to_i32s(&self) -> Option<Vec<i32>> {
        fn fit<T: Copy + TryInto<i32>>(values: &[T]) -> Option<Vec<i32>> {
            values.iter().map(|&v| v.try_into().ok()).collect()
        }
        match self {
            Self::U8(v) => fit(v),
            Self::I8(v) => fit(v),
            Self::U16(v) => fit(v),
            Self::I16(v) => fit(v),
            Self::U32(v) => fit(v),
            Self::I32(v) => Some(v.clone()),
            Self::U64(v) => fit(v),
            Self::I64(v) => fit(v),
            Self::F32(_) | Self::F64(_) | Self::Bool(_) | Self::String(_) => None,
        }
    }
}

impl From<bool> for Value {
    fn from(v: bool) -> Self {
        Self::Bool(v)
    }
}

impl From<Vec<bool>> for Value {
    fn from(v: Vec<bool>) -> Self {
        Self::Array(Array::Bool(v))
    }
}

impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Self::String(v.to_owned())
    }
}

impl From<String> for Value {
    fn from(v: String) -> Self {
        Self::String(v)
    }
}

impl From<Vec<String>> for Value {
    fn from(v: Vec<String>) -> Self {
        Self::Array(Array::String(v))
    }
}

impl From<Array> for Value {
    fn from(v: Array) -> Self {
        Self::Array(v)
    }
}
