//! Rows in Parquet, as `datasets` and the Hub write them.

use super::PARQUET_THREAD;
use crate::{Error, Row};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, List};
use serde_json::{Number, Value};
use std::path::Path;
use std::thread;

/// Reads the rows of a file. Columns keep their order. The library panics at some damaged files, so it has a thread of its
/// own.
pub(super) fn read(path: &Path) -> Result<Vec<Row>, Error> {
    let damaged = || Error::data(pythia_text::path(path), "not read as Parquet: damaged");
    thread::scope(|scope| {
        let reading = thread::Builder::new().name(PARQUET_THREAD.to_owned()).spawn_scoped(scope, || rows(path));
        reading.map_err(Error::io(path))?.join().unwrap_or_else(|_| Err(damaged()))
    })
}

fn rows(path: &Path) -> Result<Vec<Row>, Error> {
    let shown = pythia_text::path(path);
    let (file, _) = pythia_text::open_regular(path).map_err(Error::read(path))?;
    let wrong = |e: &parquet::errors::ParquetError| Error::data(&shown, format!("not read as Parquet: {e}"));
    let reader = SerializedFileReader::new(file).map_err(|e| wrong(&e))?;
    let rows = reader.get_row_iter(None).map_err(|e| wrong(&e))?;
    let mut read = Vec::new();
    for row in rows {
        let row = row.map_err(|e| wrong(&e))?;
        let columns = object(&row);
        read.push(columns.map_err(|name| {
            let number = read.len();
            Error::data(&shown, format!("row {number}: column {name} holds values of a type that no task has"))
        })?);
    }
    Ok(read)
}

/// The columns of a row; an error is the name of one that JSON cannot hold.
fn object(row: &parquet::record::Row) -> Result<Row, String> {
    row.get_column_iter().map(|(name, field)| Ok((name.clone(), value(field).ok_or_else(|| name.clone())?))).collect()
}

fn value(field: &Field) -> Option<Value> {
    Some(match field {
        Field::Null => Value::Null,
        Field::Bool(truth) => (*truth).into(),
        Field::Byte(number) => (*number).into(),
        Field::Short(number) => (*number).into(),
        Field::Int(number) => (*number).into(),
        Field::Long(number) => (*number).into(),
        Field::UByte(number) => (*number).into(),
        Field::UShort(number) => (*number).into(),
        Field::UInt(number) => (*number).into(),
        Field::ULong(number) => (*number).into(),
        Field::Float(number) => Number::from_f64(f64::from(*number))?.into(),
        Field::Double(number) => Number::from_f64(*number)?.into(),
        Field::Str(text) => text.clone().into(),
        Field::Group(row) => object(row).ok()?.into(),
        Field::ListInternal(list) => elements(list)?.into(),
        _ => return None,
    })
}

fn elements(list: &List) -> Option<Vec<Value>> {
    list.elements().iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_damaged_file_never_panics() {
        let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/eval/hub/EleutherAI/drop/data");
        let whole = fs::read(Path::new(data).join("validation-00000-of-00001.parquet")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.parquet");
        let mut failed = 0;
        for at in (0..whole.len()).step_by(3) {
            for value in [0, 0xff, whole[at] ^ 0x40] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                fs::write(&path, &damaged).unwrap();
                failed += usize::from(read(&path).is_err());
            }
        }
        assert!(failed > 1000, "{failed}");
    }
}
