//! Reads a JSON object field by field and notes every fault instead of stopping at the first.
//!
//! Invariant: a field that was not asked for is reported as unknown by [`Fields::finish`], never ignored.

use std::str::FromStr;

use serde_json::{Map, Value};

use crate::faults::{FaultCode, Faults};

/// One JSON object while it is read.
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    pointer: String,
    seen: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Starts to read `value`, which stands at `pointer`.
    pub fn of(value: &'a Value, pointer: impl Into<String>, faults: &mut Faults) -> Option<Self> {
        let pointer = pointer.into();
        match value.as_object() {
            Some(object) => Some(Self { object, pointer, seen: Vec::new() }),
            None => {
                faults.push(pointer, FaultCode::WrongType, "must be an object");
                None
            }
        }
    }

    /// The pointer of a field of this object.
    pub fn pointer_to(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, name.replace('~', "~0").replace('/', "~1"))
    }

    /// The field as it stands; `null` counts as absent.
    pub fn take(&mut self, name: &'static str) -> Option<&'a Value> {
        self.seen.push(name);
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Notes that `name` is missing.
    pub fn missing(&self, name: &str, faults: &mut Faults) {
        faults.push(self.pointer_to(name), FaultCode::Required, format!("{name} is required"));
    }

    /// A string that parses as `T`.
    pub fn parse<T>(&mut self, name: &'static str, faults: &mut Faults) -> Option<T>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        self.parse_with(name, faults, |text| text.parse::<T>().map_err(|error| error.to_string()))
    }

    /// A string that `parse` accepts.
    pub fn parse_with<T>(
        &mut self,
        name: &'static str,
        faults: &mut Faults,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(name)?;
        let Some(text) = value.as_str() else {
            faults.push(self.pointer_to(name), FaultCode::WrongType, "must be a string");
            return None;
        };
        match parse(text) {
            Ok(parsed) => Some(parsed),
            Err(detail) => {
                faults.push(self.pointer_to(name), FaultCode::Invalid, detail);
                None
            }
        }
    }

    /// One of a fixed set of words.
    pub fn choice<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)], faults: &mut Faults) -> Option<T> {
        self.parse_with(name, faults, |text| {
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                format!("must be one of: {}", known.join(", "))
            })
        })
    }

    /// A whole number from `least` to `most`.
    pub fn integer(&mut self, name: &'static str, least: u64, most: u64, faults: &mut Faults) -> Option<u64> {
        let value = self.take(name)?;
        match value.as_u64() {
            Some(number) if (least..=most).contains(&number) => Some(number),
            Some(_) => {
                faults.push(self.pointer_to(name), FaultCode::Invalid, format!("must be from {least} to {most}"));
                None
            }
            None if value.is_number() => {
                let detail = format!("must be a whole number from {least} to {most}");
                faults.push(self.pointer_to(name), FaultCode::Invalid, detail);
                None
            }
            None => {
                faults.push(self.pointer_to(name), FaultCode::WrongType, "must be a number");
                None
            }
        }
    }

    /// A boolean.
    pub fn boolean(&mut self, name: &'static str, faults: &mut Faults) -> Option<bool> {
        let value = self.take(name)?;
        let parsed = value.as_bool();
        if parsed.is_none() {
            faults.push(self.pointer_to(name), FaultCode::WrongType, "must be true or false");
        }
        parsed
    }

    /// A list.
    pub fn list(&mut self, name: &'static str, faults: &mut Faults) -> Option<&'a Vec<Value>> {
        let value = self.take(name)?;
        let list = value.as_array();
        if list.is_none() {
            faults.push(self.pointer_to(name), FaultCode::WrongType, "must be a list");
        }
        list
    }

    /// Refuses a field whose rule is not enforced yet.
    pub fn not_supported(&mut self, name: &'static str, faults: &mut Faults) {
        if self.take(name).is_some() {
            faults.push(self.pointer_to(name), FaultCode::NotSupported, format!("{name} is not supported yet"));
        }
    }

    /// Every field, for objects whose names are data.
    pub fn rest(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.object.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Reports every field that was never asked for.
    pub fn finish(self, faults: &mut Faults) {
        for name in self.object.keys() {
            if !self.seen.contains(&name.as_str()) {
                let shown: String = name.chars().take(64).collect();
                faults.push(self.pointer_to(&shown), FaultCode::UnknownField, format!("there is no field {shown:?}"));
            }
        }
    }
}
