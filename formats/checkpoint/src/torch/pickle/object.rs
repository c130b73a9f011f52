//! Instructions that name, call or fill objects. In Python, these are the dangerous ones.

use super::global::Global;
use super::value::{Part, Storage, Tensor, Value};
use super::{Machine, opcode};
use crate::error::excerpt;
use crate::weights::LIMIT_DIMS;

impl Machine<'_> {
    /// Instructions about objects. False for others.
    pub(super) fn object(&mut self, opcode: u8) -> Result<bool, String> {
        match opcode {
            opcode::GLOBAL => {
                let global = self.global_lines()?;
                self.stack.push(Value::Global(global));
            }
            opcode::STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    return Err(format!("a global is named by {} and {}", module.kind(), name.kind()));
                };
                self.stack.push(Value::Global(Global::find(self.texts.get(module), self.texts.get(name))?));
            }
            opcode::EXT1 | opcode::EXT2 | opcode::EXT4 => {
                let name = opcode::name(opcode);
                return Err(format!("opcode {name}: a global by number, which nothing but its writer can know"));
            }
            opcode::REDUCE => {
                let (args, callee) = (self.pop()?, self.pop()?);
                let Value::Tuple(args) = args else {
                    return Err(format!("arguments are {}, wanted a tuple", args.kind()));
                };
                let args = self.heap.tuples[args].clone();
                self.call(callee, &args)?;
            }
            opcode::NEWOBJ => {
                let (args, class) = (self.pop()?, self.pop()?);
                match args {
                    Value::Tuple(args) => self.instantiate(class, self.heap.tuples[args].len())?,
                    _ => return Err(format!("arguments are {}, wanted a tuple", args.kind())),
                }
            }
            opcode::OBJ => {
                let items = self.pop_to_mark()?;
                let (class, args) = items.split_first().ok_or("an object without a class")?;
                self.instantiate(*class, args.len())?;
            }
            opcode::INST => {
                let class = self.global_lines()?;
                let args = self.pop_to_mark()?;
                self.instantiate(Value::Global(class), args.len())?;
            }
            opcode::BUILD => self.build()?,
            opcode::BINPERSID => self.persistent()?,
            opcode::PERSID => return Err("a persistent id as text, wanted a tuple: saved with protocol 0?".to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// A global whose module and name are a line each.
    fn global_lines(&mut self) -> Result<Global, String> {
        let (_, module) = self.line()?;
        let (_, name) = self.line()?;
        Global::find(module, name)
    }

    /// Pushes the description of a call of `callee`.
    fn call(&mut self, callee: Value, args: &[Value]) -> Result<(), String> {
        let Value::Global(callee) = callee else {
            return Err(format!("{} is called, wanted a global", callee.kind()));
        };
        match (callee, args) {
            (Global::OrderedDict, []) => self.push_dict(true),
            (Global::Size, [tuple @ Value::Tuple(_)]) => self.stack.push(*tuple),
            (Global::RebuildParameter, [tensor @ Value::Tensor(_), _, _]) => self.stack.push(*tensor),
            (Global::RebuildTensor, &[storage, offset, shape, strides]) => {
                self.tensor([storage, offset, shape, strides])?
            }
            (Global::RebuildTensorV2, &[storage, offset, shape, strides, _, _, ref metadata @ ..])
                if self.is_nothing(metadata) =>
            {
                self.tensor([storage, offset, shape, strides])?
            }
            _ => {
                let kinds: Vec<_> = args.iter().take(LIMIT_DIMS).map(|arg| arg.kind()).collect();
                let (n, kinds) = (args.len(), kinds.join(", "));
                return Err(format!("called with {n} arguments ({kinds}), wanted {}", callee.signature()));
            }
        }
        Ok(())
    }

    /// Whether the metadata of a tensor is empty. It could say that its values must be negated.
    fn is_nothing(&self, metadata: &[Value]) -> bool {
        match metadata {
            [] | [Value::None] => true,
            &[Value::Dict(dict)] => self.heap.dicts[dict].items.is_empty(),
            _ => false,
        }
    }

    /// Creates an object from its class alone. Only dicts are allowed.
    fn instantiate(&mut self, class: Value, n_args: usize) -> Result<(), String> {
        match class {
            Value::Global(Global::OrderedDict) if n_args == 0 => self.push_dict(true),
            _ => {
                return Err(format!(
                    "an object is made from {} and {n_args} arguments, wanted OrderedDict",
                    class.kind()
                ));
            }
        }
        Ok(())
    }

    /// Sets attributes of an object. They are dropped: the state dict's `_metadata` has versions of modules.
    fn build(&mut self) -> Result<(), String> {
        let (state, object) = (self.pop()?, self.top()?);
        let ordered = matches!(object, Value::Dict(dict) if self.heap.dicts[dict].ordered);
        match state {
            Value::Dict(_) if ordered => Ok(()),
            _ => Err(format!("{} is built from {}, wanted an OrderedDict from a dict", object.kind(), state.kind())),
        }
    }

    /// Refers to a storage: `("storage", class, key, location, elements)`, in the older container followed by `None` or
    /// the part of it that is meant, `(key, first element, elements)`.
    fn persistent(&mut self) -> Result<(), String> {
        const WANTED: &str = "('storage', class, key, location, number of elements)";
        let id = self.pop()?;
        let Value::Tuple(id) = id else {
            return Err(format!("a persistent id is {}, wanted {WANTED}", id.kind()));
        };
        let (Value::Text(what), Value::Global(Global::Storage(element)), Value::Text(key), _, Value::Int(n_elems)) =
            (match *self.heap.tuples[id].as_slice() {
                [what, class, key, location, n_elems] | [what, class, key, location, n_elems, _] => {
                    (what, class, key, location, n_elems)
                }
                ref other => return Err(format!("a persistent id of {} parts, wanted {WANTED}", other.len())),
            })
        else {
            return Err(format!("a persistent id of other types, wanted {WANTED}"));
        };
        if self.texts.get(what) != "storage" {
            return Err(format!("a persistent id of {}, wanted 'storage'", excerpt(self.texts.get(what))));
        }
        let part = match self.heap.tuples[id].get(5) {
            None | Some(Value::None) => None,
            Some(&Value::Tuple(part)) => match *self.heap.tuples[part].as_slice() {
                [Value::Text(key), Value::Int(first), Value::Int(len)] => {
                    Some(Part { key, first: natural(first)?, len: natural(len)? })
                }
                _ => return Err("a part of a storage, wanted (key, first element, elements)".to_owned()),
            },
            Some(other) => return Err(format!("a part of a storage is {}, wanted a tuple", other.kind())),
        };
        let storage = Storage { key, element, n_elems: natural(n_elems)?, part, at: self.op_at };
        self.stack.push(Value::Storage(self.heap.storages.len()));
        self.heap.storages.push(storage);
        Ok(())
    }

    fn tensor(&mut self, [storage, offset, shape, strides]: [Value; 4]) -> Result<(), String> {
        let (Value::Storage(storage), Value::Int(offset)) = (storage, offset) else {
            return Err(format!("a tensor of {} at {}, wanted a storage and an int", storage.kind(), offset.kind()));
        };
        let (shape, strides) = (self.naturals(shape)?, self.naturals(strides)?);
        if shape.len() != strides.len() {
            return Err(format!("a tensor of {} dimensions with {} strides", shape.len(), strides.len()));
        }
        self.stack.push(Value::Tensor(self.heap.tensors.len()));
        self.heap.tensors.push(Tensor { storage, offset: natural(offset)?, shape, strides });
        Ok(())
    }

    /// A tuple of sizes or strides.
    fn naturals(&self, tuple: Value) -> Result<Vec<usize>, String> {
        let Value::Tuple(tuple) = tuple else {
            return Err(format!("sizes are {}, wanted a tuple", tuple.kind()));
        };
        let items = &self.heap.tuples[tuple];
        if items.len() > LIMIT_DIMS {
            return Err(format!("a tensor of {} dimensions, at most {LIMIT_DIMS} are read", items.len()));
        }
        let number = |item: &Value| match *item {
            Value::Int(int) => usize::try_from(int).map_err(|_| format!("found {int}, wanted a size")),
            other => Err(format!("a size is {}, wanted an int", other.kind())),
        };
        items.iter().map(number).collect()
    }
}

fn natural(int: i64) -> Result<u64, String> {
    u64::try_from(int).map_err(|_| format!("found {int}, wanted no negative number"))
}
