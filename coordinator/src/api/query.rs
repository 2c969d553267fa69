//! Reads query parameters, each at most once, and names every fault.
//!
//! Invariant: a parameter that nobody asks for is a fault, so a misspelt filter never means "everything".

use std::str::FromStr;

use entities::faults::{FaultCode, Faults};

/// The parameters of a request while they are read.
pub(super) struct Query {
    pairs: Vec<(String, String)>,
    pub(super) faults: Faults,
}

impl Query {
    pub(super) fn new(pairs: Vec<(String, String)>) -> Self {
        let mut faults = Faults::default();
        for (index, (name, _)) in pairs.iter().enumerate() {
            if pairs.iter().take(index).any(|(earlier, _)| earlier == name) {
                faults.push(format!("?{name}"), FaultCode::Duplicate, format!("{name} stands twice"));
            }
        }
        Self { pairs, faults }
    }

    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let index = self.pairs.iter().position(|(known, _)| known == name)?;
        Some(self.pairs.swap_remove(index).1)
    }

    pub(super) fn parse_with<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.take(name)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(detail) => {
                self.faults.push(format!("?{name}"), FaultCode::Invalid, detail);
                None
            }
        }
    }

    pub(super) fn parse<T>(&mut self, name: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        self.parse_with(name, |text| text.parse::<T>().map_err(|error| error.to_string()))
    }

    pub(super) fn integer(&mut self, name: &str, least: u64, most: u64) -> Option<u64> {
        self.parse_with(name, |text| {
            let number = text.parse::<u64>().ok().filter(|number| (least..=most).contains(number));
            number.ok_or_else(|| format!("must be a whole number from {least} to {most}"))
        })
    }

    /// Refuses a parameter whose rule is not built yet.
    pub(super) fn not_supported(&mut self, name: &str) {
        if self.take(name).is_some() {
            self.faults.push(format!("?{name}"), FaultCode::NotSupported, format!("{name} is not supported yet"));
        }
    }

    pub(super) fn finish(mut self) -> Result<(), Faults> {
        for (name, _) in &self.pairs {
            let shown: String = name.chars().take(64).collect();
            let detail = format!("there is no parameter {shown:?}");
            self.faults.push(format!("?{shown}"), FaultCode::UnknownField, detail);
        }
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults) }
    }
}
