//! The table as Parquet, without Arrow: one row group, optional columns.

use super::Row;
use super::columns::{Column, Kind, Value};
use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};
use std::sync::Arc;

/// The file's content.
pub(super) fn write(columns: &[Column], rows: &[Row<'_>]) -> Result<Vec<u8>, ParquetError> {
    let fields: Vec<TypePtr> = columns.iter().map(field).collect::<Result<_, _>>()?;
    let schema = Arc::new(Type::group_type_builder("sweep").with_fields(fields).build()?);
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut out = Vec::new();
    let mut file = SerializedFileWriter::new(&mut out, schema, Arc::new(properties))?;
    let mut group = file.next_row_group()?;
    for column in columns {
        let Some(mut writer) = group.next_column()? else { break };
        let values = rows.iter().map(|row| (column.value)(row));
        match writer.untyped() {
            ColumnWriter::ByteArrayColumnWriter(typed) => {
                let (values, levels) = present(values, |value| match value {
                    Value::Text(text) => Some(ByteArray::from(text.as_bytes().to_vec())),
                    _ => None,
                });
                typed.write_batch(&values, Some(&levels), None)?;
            }
            ColumnWriter::Int64ColumnWriter(typed) => {
                let (values, levels) = present(values, |value| match value {
                    Value::Whole(value) => i64::try_from(value).ok(),
                    _ => None,
                });
                typed.write_batch(&values, Some(&levels), None)?;
            }
            ColumnWriter::DoubleColumnWriter(typed) => {
                let (values, levels) = present(values, |value| match value {
                    Value::Float(value) => Some(value),
                    _ => None,
                });
                typed.write_batch(&values, Some(&levels), None)?;
            }
            ColumnWriter::BoolColumnWriter(typed) => {
                let (values, levels) = present(values, |value| match value {
                    Value::Truth(value) => Some(value),
                    _ => None,
                });
                typed.write_batch(&values, Some(&levels), None)?;
            }
            _ => return Err(ParquetError::General(format!("column {} has another type", column.name))),
        }
        writer.close()?;
    }
    group.close()?;
    file.close()?;
    Ok(out)
}

fn field(column: &Column) -> Result<TypePtr, ParquetError> {
    let (physical, is_text) = match column.kind {
        Kind::Text => (Physical::BYTE_ARRAY, true),
        Kind::Whole => (Physical::INT64, false),
        Kind::Float => (Physical::DOUBLE, false),
        Kind::Truth => (Physical::BOOLEAN, false),
    };
    let mut builder = Type::primitive_type_builder(column.name, physical).with_repetition(Repetition::OPTIONAL);
    if is_text {
        builder = builder.with_logical_type(Some(LogicalType::String)).with_converted_type(ConvertedType::UTF8);
    }
    Ok(Arc::new(builder.build()?))
}

/// The values that are there, and for every row whether it is (definition levels).
fn present<'a, T>(values: impl Iterator<Item = Value<'a>>, of: impl Fn(Value<'a>) -> Option<T>) -> (Vec<T>, Vec<i16>) {
    let mut there = Vec::new();
    let levels = values.map(|value| {
        let value = of(value);
        let level = i16::from(value.is_some());
        there.extend(value);
        level
    });
    let levels = levels.collect();
    (there, levels)
}

#[cfg(test)]
mod tests {
    use super::super::{Choice, Table, tests::sweep};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;
    use std::fs;

    fn object(row: &parquet::record::Row) -> serde_json::Value {
        let fields = row.get_column_iter().map(|(name, field)| {
            let value = match field {
                Field::Null => serde_json::Value::Null,
                Field::Str(text) => text.clone().into(),
                Field::Long(value) => (*value).into(),
                Field::Double(value) => (*value).into(),
                Field::Bool(value) => (*value).into(),
                other => panic!("{name}: {other:?}"),
            };
            (name.clone(), value)
        });
        serde_json::Value::Object(fields.collect())
    }

    #[test]
    fn a_file_is_read_back_as_the_same_table() {
        let (manifest, results) = sweep();
        let table = Table::new(&manifest, &results, Choice { all: true, ..Choice::default() });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.parquet");
        fs::write(&path, table.to_parquet().unwrap()).unwrap();
        let reader = SerializedFileReader::new(fs::File::open(&path).unwrap()).unwrap();
        let rows: Vec<serde_json::Value> =
            reader.get_row_iter(None).unwrap().map(|row| object(&row.unwrap())).collect();
        let jsonl = table.to_jsonl();
        let want: Vec<serde_json::Value> = jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.len(), want.len());
        for (row, want) in rows.iter().zip(&want) {
            assert_eq!(row, want);
        }
    }

    #[test]
    fn a_table_without_rows_is_a_file() {
        let (manifest, _) = sweep();
        let table = Table::new(&manifest, &[const { None }; 16], Choice::default());
        assert!(table.is_empty() && table.to_parquet().unwrap().starts_with(b"PAR1"));
    }
}
