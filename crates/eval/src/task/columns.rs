//! The columns of a row, with messages that say which row and column is wrong.

use crate::{Error, Row};
use serde_json::Value;

/// A row, or an object in one of its columns.
pub(crate) struct Columns<'r> {
    row: &'r Row,
    /// What messages call it: `piqa: row 5`.
    place: String,
}

impl<'r> Columns<'r> {
    pub(crate) fn new(row: &'r Row, place: &str) -> Self {
        Self { row, place: place.to_owned() }
    }

    /// An error about the column `name`, with its value.
    pub(crate) fn wrong(&self, name: &str, problem: &str) -> Error {
        let found = match self.row.get(name) {
            Some(value) => {
                let text: String = value.to_string().chars().take(60).collect();
                format!("found {text}, ")
            }
            None => String::new(),
        };
        Error::data(&self.place, format!("column {name}: {found}{problem}"))
    }

    pub(crate) fn value(&self, name: &str) -> Result<&'r Value, Error> {
        let missing = || {
            let names: Vec<&str> = self.row.keys().take(20).map(String::as_str).collect();
            Error::data(&self.place, format!("no column {name}, found {}", names.join(", ")))
        };
        self.row.get(name).ok_or_else(missing)
    }

    /// A text, or a number as Python writes it.
    pub(crate) fn text(&self, name: &str) -> Result<String, Error> {
        text(self.value(name)?).ok_or_else(|| self.wrong(name, "wanted a text"))
    }

    pub(crate) fn texts(&self, name: &str) -> Result<Vec<String>, Error> {
        let list = self.value(name)?.as_array().and_then(|list| list.iter().map(text).collect());
        list.ok_or_else(|| self.wrong(name, "wanted a list of texts"))
    }

    pub(crate) fn lists(&self, name: &str) -> Result<Vec<Vec<String>>, Error> {
        let inner = |value: &Value| value.as_array().and_then(|list| list.iter().map(text).collect());
        let list = self.value(name)?.as_array().and_then(|list| list.iter().map(inner).collect());
        list.ok_or_else(|| self.wrong(name, "wanted a list of lists of texts"))
    }

    /// An integer, possibly written as a text; a truth value counts 0 or 1.
    pub(crate) fn integer(&self, name: &str) -> Result<i64, Error> {
        integer(self.value(name)?).ok_or_else(|| self.wrong(name, "wanted an integer"))
    }

    pub(crate) fn integers(&self, name: &str) -> Result<Vec<i64>, Error> {
        let list = self.value(name)?.as_array().and_then(|list| list.iter().map(integer).collect());
        list.ok_or_else(|| self.wrong(name, "wanted a list of integers"))
    }

    pub(crate) fn inner(&self, name: &str) -> Result<Columns<'r>, Error> {
        let row = self.value(name)?.as_object().ok_or_else(|| self.wrong(name, "wanted an object"))?;
        Ok(Columns { row, place: format!("{}, {name}", self.place) })
    }

    pub(crate) fn inners(&self, name: &str) -> Result<Vec<Columns<'r>>, Error> {
        let inner =
            |value: &'r Value| Some(Columns { row: value.as_object()?, place: format!("{}, {name}", self.place) });
        let list = self.value(name)?.as_array().and_then(|list| list.iter().map(inner).collect());
        list.ok_or_else(|| self.wrong(name, "wanted a list of objects"))
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        Value::Bool(truth) => Some(i64::from(*truth)),
        _ => None,
    }
}
