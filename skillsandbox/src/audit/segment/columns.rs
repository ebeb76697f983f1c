//! The columns of a segment: one table makes the schema, what writes rows, and what reads them.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DictionaryArray, Int32Array, RecordBatch,
    StringArray, TimestampNanosecondArray, UInt16Array, UInt32Array, UInt64Array,
    builder::{
        BinaryBuilder, BooleanBuilder, Int32Builder, StringBuilder, TimestampNanosecondBuilder,
        UInt16Builder, UInt32Builder, UInt64Builder,
    },
    types::Int32Type,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};

/// The zone of all times.
const UTC: &str = "UTC";

/// What a column holds: how it is built, and how it is read.
pub(super) trait Column {
    /// One value.
    type Value<'a>;
    type Builder: Default;

    fn data_type() -> DataType;
    fn push(builder: &mut Self::Builder, value: Option<&Self::Value<'_>>)
    -> Result<(), ArrowError>;
    fn finish(builder: &mut Self::Builder) -> ArrayRef;
    /// The value in this row; `None` where there is none, or the column is of another type.
    fn get(array: &dyn Array, row: usize) -> Option<Self::Value<'_>>;
}

macro_rules! numbers {
    ($($name:ident: $value:ty, $builder:ty, $array:ty, $data_type:expr;)*) => { $(
        pub(super) struct $name;

        impl Column for $name {
            type Value<'a> = $value;
            type Builder = $builder;

            fn data_type() -> DataType {
                $data_type
            }

            fn push(
                builder: &mut Self::Builder,
                value: Option<&Self::Value<'_>>,
            ) -> Result<(), ArrowError> {
                builder.append_option(value.copied());
                Ok(())
            }

            fn finish(builder: &mut Self::Builder) -> ArrayRef {
                Arc::new(builder.finish())
            }

            fn get(array: &dyn Array, row: usize) -> Option<Self::Value<'_>> {
                let array = array.as_any().downcast_ref::<$array>()?;
                array.is_valid(row).then(|| array.value(row))
            }
        }
    )* };
}

numbers! {
    U16: u16, UInt16Builder, UInt16Array, DataType::UInt16;
    U32: u32, UInt32Builder, UInt32Array, DataType::UInt32;
    U64: u64, UInt64Builder, UInt64Array, DataType::UInt64;
    I32: i32, Int32Builder, Int32Array, DataType::Int32;
    Bool: bool, BooleanBuilder, BooleanArray, DataType::Boolean;
}

/// Nanoseconds since 1970.
pub(super) struct Time;

impl Column for Time {
    type Value<'a> = i64;
    type Builder = Times;

    fn data_type() -> DataType {
        DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into()))
    }

    fn push(builder: &mut Self::Builder, value: Option<&i64>) -> Result<(), ArrowError> {
        builder.0.append_option(value.copied());
        Ok(())
    }

    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        Arc::new(builder.0.finish())
    }

    fn get(array: &dyn Array, row: usize) -> Option<i64> {
        let array = array.as_any().downcast_ref::<TimestampNanosecondArray>()?;
        array.is_valid(row).then(|| array.value(row))
    }
}

pub(super) struct Times(TimestampNanosecondBuilder);

impl Default for Times {
    fn default() -> Self {
        Self(TimestampNanosecondBuilder::new().with_timezone(UTC))
    }
}

/// Text that comes again and again: each is kept once.
pub(super) struct Text;

/// Builds one, and knows the text before: often it comes again at once.
#[derive(Default)]
pub(super) struct Texts {
    numbers: Int32Builder,
    different: StringBuilder,
    known: HashMap<Box<str>, i32>,
    last: (String, Option<i32>),
}

impl Texts {
    fn number(&mut self, text: &str) -> Result<i32, ArrowError> {
        if let (last, Some(number)) = &self.last
            && last == text
        {
            return Ok(*number);
        }
        let number = if let Some(number) = self.known.get(text) {
            *number
        } else {
            let next = i32::try_from(self.known.len());
            let next = next.map_err(|_error| ArrowError::DictionaryKeyOverflowError)?;
            self.different.append_value(text);
            self.known.insert(text.into(), next);
            next
        };
        self.last.0.clear();
        self.last.0.push_str(text);
        self.last.1 = Some(number);
        Ok(number)
    }
}

impl Column for Text {
    type Value<'a> = Cow<'a, str>;
    type Builder = Texts;

    fn data_type() -> DataType {
        DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into())
    }

    fn push(
        builder: &mut Self::Builder,
        value: Option<&Self::Value<'_>>,
    ) -> Result<(), ArrowError> {
        let number = value.map(|text| builder.number(text)).transpose()?;
        builder.numbers.append_option(number);
        Ok(())
    }

    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        let (numbers, texts) = (builder.numbers.finish(), builder.different.finish());
        *builder = Texts::default();
        Arc::new(DictionaryArray::new(numbers, Arc::new(texts)))
    }

    fn get(array: &dyn Array, row: usize) -> Option<Self::Value<'_>> {
        let array = array
            .as_any()
            .downcast_ref::<DictionaryArray<Int32Type>>()?;
        let texts = array.values().as_any().downcast_ref::<StringArray>()?;
        let key = array.key(row).filter(|key| *key < texts.len())?;
        Some(Cow::Borrowed(texts.value(key)))
    }
}

pub(super) struct Bytes;

impl Column for Bytes {
    type Value<'a> = Cow<'a, [u8]>;
    type Builder = BinaryBuilder;

    fn data_type() -> DataType {
        DataType::Binary
    }

    fn push(
        builder: &mut Self::Builder,
        value: Option<&Self::Value<'_>>,
    ) -> Result<(), ArrowError> {
        builder.append_option(value);
        Ok(())
    }

    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        Arc::new(builder.finish())
    }

    fn get(array: &dyn Array, row: usize) -> Option<Self::Value<'_>> {
        let array = array.as_any().downcast_ref::<BinaryArray>()?;
        array.is_valid(row).then(|| Cow::Borrowed(array.value(row)))
    }
}

macro_rules! columns {
    ($($(#[$doc:meta])* $name:ident: $kind:ident,)*) => {
        /// One row: what is null has no value.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub(super) struct Row<'a> {
            $($(#[$doc])* pub(super) $name: Option<<$kind as Column>::Value<'a>>,)*
        }

        /// Rows that become a batch.
        #[derive(Default)]
        pub(super) struct Builders {
            $($name: <$kind as Column>::Builder,)*
        }

        impl Builders {
            pub(super) fn push(&mut self, row: &Row<'_>) -> Result<(), ArrowError> {
                $(<$kind as Column>::push(&mut self.$name, row.$name.as_ref())?;)*
                Ok(())
            }

            pub(super) fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
                let columns = vec![$(<$kind as Column>::finish(&mut self.$name)),*];
                RecordBatch::try_new(Arc::clone(schema), columns)
            }
        }

        impl<'a> Row<'a> {
            /// The row of this number. Columns that the batch does not have are null.
            pub(super) fn get(batch: &'a RecordBatch, row: usize) -> Self {
                Self { $(
                    $name: batch
                        .column_by_name(stringify!($name))
                        .and_then(|column| <$kind as Column>::get(column.as_ref(), row)),
                )* }
            }
        }

        /// The columns, in order.
        pub(super) fn schema() -> SchemaRef {
            let field = |name: &str, data_type| Field::new(name, data_type, true);
            Arc::new(Schema::new(vec![
                $(field(stringify!($name), <$kind as Column>::data_type())),*
            ]))
        }
    };
}

// The fields of `docs/events.md`, and of the run. What is null for one kind has no cost.
columns! {
    /// Name of the run.
    run: Text,
    /// Id of the sandbox.
    sandbox: Text,
    skill_name: Text,
    skill_version: Text,
    host: Text,
    tier: Text,
    /// Time of day.
    time: Time,
    /// Time of day at boot: what `boot_ns` is counted from.
    booted: Time,
    sequence: U64,
    kind: Text,
    verdict: Text,
    reason: Text,
    /// Number of the rule that decided.
    rule: U32,
    rule_text: Text,
    rule_line: U32,
    permit: Text,
    remedy: Text,
    pid: U32,
    tgid: U32,
    ppid: U32,
    uid: U32,
    gid: U32,
    comm: Text,
    executable: Text,
    executable_source: Text,
    /// Accesses asked for, with a plus between.
    access: Text,
    path: Text,
    /// The path as it was, where it is not UTF-8.
    path_bytes: Bytes,
    path_source: Text,
    directory: I32,
    /// The number given to `open(2)`.
    open_flags: U32,
    result: I32,
    error: Text,
    address: Text,
    port: U16,
    family: Text,
    protocol: Text,
    socket_type: Text,
    name: Text,
    is_abstract: Bool,
    target: U32,
    mode: U32,
    child: U32,
    exit_code: I32,
    signal: I32,
    signal_name: Text,
    /// A record of userspace's own, in JSON: the columns have what is asked for of it.
    note: Text,
}
