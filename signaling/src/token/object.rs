//! Deserializes structs from JSON objects only. Code derived by serde would also accept an array of the values in
//! field order, so that `[true]` could pass for a decision and `["HS256"]` for a header.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Wrapper that deserializes a `T` from an object only.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OnlyMap<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OnlyMap<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(OnlyMap(PhantomData))
    }
}

/// Deserializes a `T` from the JSON text of an object.
pub(crate) fn from_slice<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice::<Object<T>>(text).map(|object| object.0)
}

/// For `deserialize_with`: a field that is an object or null.
pub(crate) fn optional<'de, D: Deserializer<'de>, T: Deserialize<'de>>(de: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(de)?.map(|object| object.0))
}

/// For `deserialize_with`: a field that is an object of strings, or null. A null string counts as absent.
pub(crate) fn texts<'de, D: Deserializer<'de>>(de: D) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    let texts = Option::<BTreeMap<String, Option<String>>>::deserialize(de)?;
    let present = |texts: BTreeMap<String, Option<String>>| {
        texts.into_iter().filter_map(|(key, text)| Some((key, text?))).collect()
    };
    Ok(texts.map(present))
}

/// Removes all fields that are null. Protobuf JSON treats them as absent, but its deserializers here do not.
pub(crate) fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, field)| !field.is_null());
            Value::Object(fields.map(|(name, field)| (name, without_nulls(field))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// For `deserialize_with`: a field that is an object.
pub(crate) fn field<'de, D: Deserializer<'de>, T: Deserialize<'de>>(de: D) -> Result<T, D::Error> {
    Ok(Object::<T>::deserialize(de)?.0)
}
