//! Reads a configuration file, with the environment over it, and names every fault with its line.
//!
//! A file has sections of keys. `APPPROXY_<SECTION>__<KEY>` in the environment replaces a key; a list is then written
//! with commas. A secret can stand in a file of its own, named by the same key with `_file` behind it.
//!
//! Invariant: a key that nobody asked for is a fault, and a secret is in no fault's text.

mod source;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use source::{Origin, Value};

/// The prefix of every variable.
pub const ENVIRONMENT_PREFIX: &str = "APPPROXY_";

/// The largest file that is read for a secret.
const MAX_SECRET_BYTES: usize = 16 * 1024;

/// What is wrong with a configuration, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SettingFaults(Vec<String>);

impl fmt::Display for SettingFaults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join("\n"))
    }
}

impl SettingFaults {
    /// Each fault, beginning with its place.
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// The secrets of a file that has one in each line; empty lines and those that begin with `#` have none.
pub fn lines_of_secrets(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// Reads the file of a secret.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> std::io::Result<Vec<u8>>;

/// A configuration while it is read.
pub struct Settings<'a> {
    file: String,
    values: BTreeMap<(String, String), Value>,
    asked: HashSet<(&'static str, String)>,
    sections: HashSet<&'static str>,
    faults: Vec<(Origin, String)>,
    read_file: ReadFile<'a>,
}

// === impl Settings ===

impl<'a> Settings<'a> {
    /// Takes up the text of `file` and the environment.
    pub fn new(
        file: &str,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
        read_file: ReadFile<'a>,
    ) -> Self {
        let mut faults = Vec::new();
        let mut values = source::read_text(text, &mut faults);
        source::overlay(&mut values, environment);
        Self { file: file.to_owned(), values, asked: HashSet::new(), sections: HashSet::new(), faults, read_file }
    }

    /// A key that may be missing.
    pub fn optional<T>(&mut self, section: &'static str, key: &'static str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let value = self.take(section, key)?;
        let Some(text) = value.scalar() else {
            self.fault(value.origin, section, key, "must be one value, not a list");
            return None;
        };
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.fault(value.origin, section, key, &format!("{error}"));
                None
            }
        }
    }

    /// A key with a default.
    pub fn or<T>(&mut self, section: &'static str, key: &'static str, default: T) -> T
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.optional(section, key).unwrap_or(default)
    }

    /// A key that must be there.
    pub fn required<T>(&mut self, section: &'static str, key: &'static str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        if !self.is_set(section, key) {
            self.asked.insert((section, key.to_owned()));
            self.sections.insert(section);
            self.fault(Origin::Nowhere, section, key, "is required");
            return None;
        }
        self.optional(section, key)
    }

    /// A list; `None` when it is missing.
    pub fn list<T>(&mut self, section: &'static str, key: &'static str) -> Option<Vec<T>>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let value = self.take(section, key)?;
        let mut parsed = Vec::new();
        for text in value.items() {
            match text.parse() {
                Ok(item) => parsed.push(item),
                Err(error) => self.fault(value.origin, section, key, &format!("{text:?}: {error}")),
            }
        }
        Some(parsed)
    }

    /// A span of whole seconds or milliseconds, as the key's last word says.
    pub fn number(&mut self, section: &'static str, key: &'static str, default: u64, least: u64, most: u64) -> u64 {
        let origin =
            self.values.get(&(section.to_owned(), key.to_owned())).map_or(Origin::Nowhere, |value| value.origin);
        let number = self.or(section, key, default);
        if !(least..=most).contains(&number) {
            self.fault(origin, section, key, &format!("must be from {least} to {most}"));
        }
        number
    }

    /// A secret: `key` itself, or the content of the file that `<key>_file` names.
    pub fn secret(&mut self, section: &'static str, key: &'static str) -> Option<Secret> {
        let direct = self.take(section, key);
        let by_file = self.take_named(section, format!("{key}_file"));
        match (direct, by_file) {
            (Some(value), Some(_)) => {
                self.fault(value.origin, section, key, &format!("give {key} or {key}_file, not both"));
                None
            }
            (Some(value), None) => match value.scalar() {
                Some(text) if !text.is_empty() => Some(Secret(text.to_owned())),
                _ => {
                    self.fault(value.origin, section, key, "must be a text that is not empty");
                    None
                }
            },
            (None, Some(value)) => self.secret_file(section, key, &value),
            (None, None) => None,
        }
    }

    /// A list of secrets: `key` itself, or the lines of the file that `<key>_file` names. Empty when neither is there.
    pub fn secrets(&mut self, section: &'static str, key: &'static str) -> Vec<Secret> {
        let direct = self.take(section, key);
        let by_file = self.take_named(section, format!("{key}_file"));
        let texts = match (direct, by_file) {
            (Some(value), Some(_)) => {
                self.fault(value.origin, section, key, &format!("give {key} or {key}_file, not both"));
                Vec::new()
            }
            (Some(value), None) => value.items().into_iter().map(str::to_owned).collect(),
            (None, Some(value)) => {
                let text = self.read_secret_file(section, key, &value);
                text.map(|text| lines_of_secrets(&text)).unwrap_or_default()
            }
            (None, None) => Vec::new(),
        };
        texts.into_iter().map(Secret).collect()
    }

    fn secret_file(&mut self, section: &'static str, key: &'static str, value: &Value) -> Option<Secret> {
        let text = self.read_secret_file(section, key, value)?.trim().to_owned();
        if text.is_empty() {
            let path = value.scalar().unwrap_or_default();
            self.fault_named(value.origin, section, &format!("{key}_file"), &format!("{path} is empty"));
            return None;
        }
        Some(Secret(text))
    }

    fn read_secret_file(&mut self, section: &'static str, key: &'static str, value: &Value) -> Option<String> {
        let path = value.scalar().unwrap_or_default().to_owned();
        let content = match (self.read_file)(Path::new(&path)) {
            Ok(bytes) if bytes.len() <= MAX_SECRET_BYTES => {
                String::from_utf8(bytes).map_err(|_| "is not text".to_owned())
            }
            Ok(_) => Err(format!("has more than {MAX_SECRET_BYTES} bytes")),
            Err(error) => Err(error.to_string()),
        };
        content
            .map_err(|reason| {
                self.fault_named(value.origin, section, &format!("{key}_file"), &format!("{path}: {reason}"));
            })
            .ok()
    }

    /// Whether a key is there.
    pub fn is_set(&self, section: &str, key: &str) -> bool {
        self.values.contains_key(&(section.to_owned(), key.to_owned()))
    }

    /// Notes a fault that only the caller can see.
    pub fn refuse(&mut self, section: &'static str, key: &'static str, reason: &str) {
        let origin =
            self.values.get(&(section.to_owned(), key.to_owned())).map_or(Origin::Nowhere, |value| value.origin);
        self.fault(origin, section, key, reason);
    }

    /// Ends reading: unknown keys are faults, and `value` is there if there are none.
    ///
    /// # Errors
    /// Every fault that was found.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, SettingFaults> {
        let unknown: Vec<(String, String, Origin)> = self
            .values
            .iter()
            .filter(|((section, key), _)| !self.asked.iter().any(|(known, name)| known == section && name == key))
            .map(|((section, key), value)| (section.clone(), key.clone(), value.origin))
            .collect();
        for (section, key, origin) in unknown {
            let is_section_known = self.sections.iter().any(|known| *known == section);
            let reason = if is_section_known { "there is no such key" } else { "there is no such section" };
            self.fault_named(origin, &section, &key, reason);
        }
        let is_faultless = self.faults.is_empty();
        match value {
            Some(value) if is_faultless => Ok(value),
            _ => {
                self.faults.sort_by_key(|(origin, _)| *origin);
                let place = |origin: &Origin| match origin {
                    Origin::Line(line) => format!("{}:{line}: ", self.file),
                    Origin::Environment => "environment: ".to_owned(),
                    Origin::Nowhere => format!("{}: ", self.file),
                };
                Err(SettingFaults(self.faults.iter().map(|(origin, text)| place(origin) + text).collect()))
            }
        }
    }

    fn take(&mut self, section: &'static str, key: &'static str) -> Option<Value> {
        self.take_named(section, key.to_owned())
    }

    fn take_named(&mut self, section: &'static str, key: String) -> Option<Value> {
        self.sections.insert(section);
        let value = self.values.get(&(section.to_owned(), key.clone())).cloned();
        self.asked.insert((section, key));
        value
    }

    fn fault(&mut self, origin: Origin, section: &str, key: &str, reason: &str) {
        self.fault_named(origin, section, key, reason);
    }

    fn fault_named(&mut self, origin: Origin, section: &str, key: &str, reason: &str) {
        let name = match origin {
            Origin::Environment => {
                format!("{ENVIRONMENT_PREFIX}{}__{}", section.to_uppercase(), key.to_uppercase())
            }
            Origin::Line(_) | Origin::Nowhere => format!("[{section}] {key}"),
        };
        self.faults.push((origin, format!("{name}: {reason}")));
    }
}

#[cfg(test)]
mod tests;
