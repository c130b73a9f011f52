//! A pickle interpreter that can only put tensors into dicts.
//!
//! Pickles are programs for a stack machine, which in Python may import and call anything. This interpreter executes
//! nothing. A name outside a [short list](global) is an error. For names on the list it records the arguments of the
//! call: a tensor becomes a description of the position of its elements.
//!
//! Memory and work are bounded: a pickle has at most [`LIMIT_BYTES`], instructions are counted, each makes at most one
//! value, and strings are [numbers](texts) that refer to their position.

mod global;
mod object;
mod opcode;
mod texts;
mod value;

pub(crate) use global::Element;
pub(crate) use texts::{TextId, Texts};
pub(crate) use value::{Heap, Part, Span, Storage, Tensor, Value};

use crate::error::excerpt;
use std::collections::HashMap;
use value::Dict;

/// Maximum length of a pickle. That of 12b has 0.1 MB.
pub(crate) const LIMIT_BYTES: u64 = 16 << 20;

/// Maximum number of instructions. The pickle of 12b has 25 thousand.
const LIMIT_STEPS: usize = 1 << 19;

/// The newest protocol.
const LAST_PROTOCOL: u8 = 5;

/// The result of reading a pickle.
#[derive(Debug)]
pub(crate) struct Pickle<'p> {
    bytes: &'p [u8],
    pub(crate) root: Value,
    pub(crate) heap: Heap,
    pub(crate) texts: Texts<'p>,
    /// Its length. Other bytes may follow.
    pub(crate) n_bytes: usize,
}

impl<'p> Pickle<'p> {
    /// Reads the pickle at the start of `bytes`.
    pub(crate) fn load(bytes: &'p [u8]) -> Result<Self, PickleError> {
        let mut machine = Machine {
            bytes,
            at: 0,
            op_at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            heap: Heap::default(),
            texts: Texts::default(),
        };
        let root = machine.run().map_err(|reason| PickleError { at: machine.op_at, reason })?;
        Ok(Self { bytes, root, n_bytes: machine.at, heap: machine.heap, texts: machine.texts })
    }

    /// The string of a [`Value::Text`].
    pub(crate) fn text(&self, id: TextId) -> &'p str {
        self.texts.get(id)
    }

    /// The bytes of a [`Value::Long`].
    pub(crate) fn long(&self, span: Span) -> &'p [u8] {
        span.of(self.bytes)
    }
}

/// Why a pickle cannot be read.
#[derive(Debug)]
pub(crate) struct PickleError {
    /// The instruction, in bytes from the start of the pickle.
    pub(crate) at: usize,
    pub(crate) reason: String,
}

/// The interpreter. Functions return the reason of an error; its position is the current instruction.
struct Machine<'p> {
    bytes: &'p [u8],
    /// The next byte to read.
    at: usize,
    /// The current instruction.
    op_at: usize,
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    heap: Heap,
    texts: Texts<'p>,
}

impl<'p> Machine<'p> {
    /// Runs to the end and returns the value there.
    fn run(&mut self) -> Result<Value, String> {
        for _ in 0..LIMIT_STEPS {
            self.op_at = self.at;
            let &opcode = self.bytes.get(self.at).ok_or("the pickle ends without STOP: truncated?")?;
            self.at += 1;
            if opcode == opcode::STOP {
                return match (self.pop()?, self.stack.len() + self.marks.len()) {
                    (root, 0) => Ok(root),
                    (_, more) => Err(format!("STOP leaves {more} values on the stack")),
                };
            }
            let known =
                self.stream(opcode)? || self.literal(opcode)? || self.container(opcode)? || self.object(opcode)?;
            if !known {
                return Err(format!("opcode {} is not one that weights need", opcode::name(opcode)));
            }
        }
        Err(format!("more than {LIMIT_STEPS} instructions"))
    }

    /// Instructions of the stream, the stack and the memo. False for others.
    fn stream(&mut self, opcode: u8) -> Result<bool, String> {
        match opcode {
            opcode::PROTO => match self.number::<1>()? {
                0..=5 => {}
                protocol => return Err(format!("protocol {protocol}, at most {LAST_PROTOCOL} is known")),
            },
            opcode::FRAME => {
                let (len, left) = (self.number::<8>()?, self.bytes.len() - self.at);
                if len > left as u64 {
                    return Err(format!("a frame of {len} bytes, but only {left} follow"));
                }
            }
            opcode::MARK => self.marks.push(self.stack.len()),
            // The top of the stack may be a mark.
            opcode::POP if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            opcode::POP => drop(self.pop()?),
            opcode::POP_MARK => self.cut_at_mark()?,
            opcode::DUP => {
                let top = self.pop()?;
                self.stack.extend([top, top]);
            }
            opcode::GET => self.get_line()?,
            opcode::BINGET => self.get::<1>()?,
            opcode::LONG_BINGET => self.get::<4>()?,
            opcode::PUT => {
                let slot = self.parse_line("a slot of the memo")?;
                self.put(slot)?;
            }
            opcode::BINPUT => self.put_numbered::<1>()?,
            opcode::LONG_BINPUT => self.put_numbered::<4>()?,
            opcode::MEMOIZE => self.put(self.memo.len() as u32)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Numbers, text and bytes. False for other instructions.
    fn literal(&mut self, opcode: u8) -> Result<bool, String> {
        let value = match opcode {
            opcode::NONE => Value::None,
            opcode::NEWTRUE => Value::Bool(true),
            opcode::NEWFALSE => Value::Bool(false),
            opcode::BININT => Value::Int(i64::from(self.number::<4>()? as i32)),
            opcode::BININT1 => Value::Int(self.number::<1>()? as i64),
            opcode::BININT2 => Value::Int(self.number::<2>()? as i64),
            opcode::INT | opcode::LONG => self.int_line()?,
            opcode::LONG1 => self.long::<1>()?,
            opcode::LONG4 => self.long::<4>()?,
            opcode::FLOAT => {
                self.parse_line::<f64>("a float")?;
                Value::Float
            }
            opcode::BINFLOAT => {
                self.take(8)?;
                Value::Float
            }
            opcode::STRING => self.quoted_line()?,
            opcode::UNICODE => {
                let (_, line) = self.line()?;
                self.plain_text(line)?
            }
            opcode::SHORT_BINSTRING | opcode::SHORT_BINUNICODE => self.sized_text::<1>()?,
            opcode::BINSTRING | opcode::BINUNICODE => self.sized_text::<4>()?,
            opcode::BINUNICODE8 => self.sized_text::<8>()?,
            opcode::SHORT_BINBYTES => self.sized_bytes::<1>()?,
            opcode::BINBYTES => self.sized_bytes::<4>()?,
            opcode::BINBYTES8 => self.sized_bytes::<8>()?,
            _ => return Ok(false),
        };
        self.stack.push(value);
        Ok(true)
    }

    /// Tuples, lists and dicts. False for other instructions.
    fn container(&mut self, opcode: u8) -> Result<bool, String> {
        match opcode {
            opcode::EMPTY_TUPLE => self.push_tuple(Vec::new()),
            opcode::TUPLE => {
                let items = self.pop_to_mark()?;
                self.push_tuple(items);
            }
            opcode::TUPLE1 | opcode::TUPLE2 | opcode::TUPLE3 => {
                let mut items = vec![Value::None; usize::from(opcode - opcode::TUPLE1) + 1];
                for item in items.iter_mut().rev() {
                    *item = self.pop()?;
                }
                self.push_tuple(items);
            }
            opcode::EMPTY_LIST => self.push_list(Vec::new()),
            opcode::LIST => {
                let items = self.pop_to_mark()?;
                self.push_list(items);
            }
            opcode::APPEND => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            opcode::APPENDS => {
                let items = self.pop_to_mark()?;
                self.append(&items)?;
            }
            opcode::EMPTY_DICT => self.push_dict(false),
            opcode::DICT => {
                let items = self.pop_to_mark()?;
                self.push_dict(false);
                self.set_items(&items)?;
            }
            opcode::SETITEM => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])?;
            }
            opcode::SETITEMS => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn push_tuple(&mut self, items: Vec<Value>) {
        self.stack.push(Value::Tuple(self.heap.tuples.len()));
        self.heap.tuples.push(items);
    }

    fn push_list(&mut self, items: Vec<Value>) {
        self.stack.push(Value::List(self.heap.lists.len()));
        self.heap.lists.push(items);
    }

    fn push_dict(&mut self, ordered: bool) {
        self.stack.push(Value::Dict(self.heap.dicts.len()));
        self.heap.dicts.push(Dict { ordered, items: Vec::new() });
    }

    /// Appends to the list on top of the stack.
    fn append(&mut self, items: &[Value]) -> Result<(), String> {
        match self.top()? {
            Value::List(list) => self.heap.lists[list].extend_from_slice(items),
            other => return Err(format!("items are appended to {}, wanted a list", other.kind())),
        }
        Ok(())
    }

    /// Sets items of the dict on top of the stack; keys and values alternate.
    fn set_items(&mut self, items: &[Value]) -> Result<(), String> {
        let (pairs, []) = items.as_chunks::<2>() else { return Err("a key without a value".to_owned()) };
        match self.top()? {
            Value::Dict(dict) => self.heap.dicts[dict].items.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            other => return Err(format!("items are set in {}, wanted a dict", other.kind())),
        }
        Ok(())
    }

    // The stack.

    /// The height of the last mark. Nothing below may be popped.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Value, String> {
        let top = self.stack.last().filter(|_| self.stack.len() > self.floor());
        top.copied().ok_or_else(|| "a value is taken from the empty stack".to_owned())
    }

    fn pop(&mut self) -> Result<Value, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.marks.pop().ok_or("no MARK on the stack")?;
        Ok(self.stack.split_off(mark))
    }

    fn cut_at_mark(&mut self) -> Result<(), String> {
        let mark = self.marks.pop().ok_or("no MARK on the stack")?;
        self.stack.truncate(mark);
        Ok(())
    }

    // The memo. A map and not a list, because the file chooses the slots.

    fn put_numbered<const N: usize>(&mut self) -> Result<(), String> {
        let slot = self.number::<N>()? as u32;
        self.put(slot)
    }

    fn put(&mut self, slot: u32) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn get_line(&mut self) -> Result<(), String> {
        let slot = self.parse_line("a slot of the memo")?;
        self.get_slot(slot)
    }

    fn get<const N: usize>(&mut self) -> Result<(), String> {
        let slot = self.number::<N>()? as u32;
        self.get_slot(slot)
    }

    fn get_slot(&mut self, slot: u32) -> Result<(), String> {
        let value = self.memo.get(&slot).ok_or_else(|| format!("slot {slot} of the memo was never set"))?;
        self.stack.push(*value);
        Ok(())
    }

    // Operands.

    fn take(&mut self, n_bytes: u64) -> Result<&'p [u8], String> {
        let left = self.bytes.len() - self.at;
        if n_bytes > left as u64 {
            return Err(format!("wanted {n_bytes} more bytes, but only {left} follow"));
        }
        let taken = &self.bytes[self.at..self.at + n_bytes as usize];
        self.at += n_bytes as usize;
        Ok(taken)
    }

    /// A little-endian number of at most 8 bytes.
    fn number<const N: usize>(&mut self) -> Result<u64, String> {
        let mut bytes = [0; 8];
        bytes[..N].copy_from_slice(self.take(N as u64)?);
        Ok(u64::from_le_bytes(bytes))
    }

    /// An integer whose length in bytes is a number of `N` bytes.
    fn long<const N: usize>(&mut self) -> Result<Value, String> {
        let len = self.number::<N>()?;
        let start = self.at;
        let bytes = self.take(len)?;
        if bytes.len() > 8 {
            return Ok(Value::Long(Span::new(start, bytes.len())));
        }
        // Sign-extends into the missing bytes.
        let negative = bytes.last().is_some_and(|&last| last >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        Ok(Value::Int(i64::from_le_bytes(wide)))
    }

    fn sized_bytes<const N: usize>(&mut self) -> Result<Value, String> {
        let len = self.number::<N>()?;
        self.take(len)?;
        Ok(Value::Bytes)
    }

    fn sized_text<const N: usize>(&mut self) -> Result<Value, String> {
        let len = self.number::<N>()?;
        let text = str::from_utf8(self.take(len)?).map_err(|_| "a string is not UTF-8")?;
        Ok(Value::Text(self.texts.enter(text)))
    }

    /// The rest of a line, without its end, and its position.
    fn line(&mut self) -> Result<(usize, &'p str), String> {
        let start = self.at;
        let rest = &self.bytes[start..];
        let len = rest.iter().position(|&byte| byte == b'\n').ok_or("a line has no end")?;
        self.at += len + 1;
        let line = str::from_utf8(&rest[..len]).map_err(|_| "a line is not UTF-8")?;
        Ok((start, line))
    }

    fn parse_line<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, String> {
        let (_, line) = self.line()?;
        line.parse().map_err(|_| format!("found {}, wanted {what}", excerpt(line)))
    }

    /// A decimal integer; bools are written as `01` and `00`.
    fn int_line(&mut self) -> Result<Value, String> {
        let (start, line) = self.line()?;
        let digits = line.trim_end_matches('L');
        match (digits, digits.parse()) {
            ("00", _) => Ok(Value::Bool(false)),
            ("01", _) => Ok(Value::Bool(true)),
            (_, Ok(int)) => Ok(Value::Int(int)),
            _ if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(Value::Long(Span::new(start, digits.len())))
            }
            _ => Err(format!("found {}, wanted an integer", excerpt(line))),
        }
    }

    fn quoted_line(&mut self) -> Result<Value, String> {
        let (_, line) = self.line()?;
        let inner = ['\'', '"'].iter().find_map(|&quote| line.strip_prefix(quote)?.strip_suffix(quote));
        let inner = inner.ok_or_else(|| format!("found {}, wanted a quoted string", excerpt(line)))?;
        self.plain_text(inner)
    }

    /// Text of protocol 0. Escapes are refused, because names of tensors have none.
    fn plain_text(&mut self, text: &'p str) -> Result<Value, String> {
        if text.contains('\\') {
            return Err(format!("{}: escapes in strings are not read", excerpt(text)));
        }
        Ok(Value::Text(self.texts.enter(text)))
    }
}

#[cfg(test)]
mod tests;
