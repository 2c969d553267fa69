//! Where values come from: the lines of a file, and variables.
//!
//! Invariant: every value knows its place, so that a fault can name it.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ENVIRONMENT_PREFIX;

/// Where a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// In this line of the file, counted from 1.
    Line(usize),
    /// In the environment.
    Environment,
    /// It is missing.
    Nowhere,
}

/// A value before anybody asked what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) origin: Origin,
    text: Text,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Text {
    One(String),
    Many(Vec<String>),
}

pub(super) type Values = BTreeMap<(String, String), Value>;

// === impl Value ===

impl Value {
    /// The text of a value that is not a list.
    pub(super) fn scalar(&self) -> Option<&str> {
        match &self.text {
            Text::One(text) => Some(text),
            Text::Many(_) => None,
        }
    }

    /// The items of a list; a single text is split at its commas.
    pub(super) fn items(&self) -> Vec<&str> {
        match &self.text {
            Text::One(text) => text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect(),
            Text::Many(items) => items.iter().map(String::as_str).collect(),
        }
    }
}

/// Reads sections and keys; what is not of that shape is a fault with its line.
pub(super) fn read_text(text: &str, faults: &mut Vec<(Origin, String)>) -> Values {
    let line_of = |span: Range<usize>| {
        let before = text.as_bytes().get(..span.start).unwrap_or_default();
        Origin::Line(1 + before.iter().filter(|byte| **byte == b'\n').count())
    };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let origin = error.span().map_or(Origin::Line(1), line_of);
        faults.push((origin, error.message().to_owned()));
    }
    let mut values = Values::new();
    for (section, content) in document.get_ref() {
        let section_name = section.get_ref().to_string();
        let Some(table) = content.get_ref().as_table() else {
            faults.push((line_of(section.span()), format!("{section_name}: a key stands before the first section")));
            continue;
        };
        for (key, value) in table {
            let origin = line_of(key.span());
            match text_of(value) {
                Some(text) => {
                    values.insert((section_name.clone(), key.get_ref().to_string()), Value { origin, text });
                }
                None => {
                    let name = key.get_ref();
                    faults.push((
                        origin,
                        format!("[{section_name}] {name}: must be a text, a number, true, false or a list of texts"),
                    ));
                }
            }
        }
    }
    values
}

fn text_of(value: &Spanned<DeValue<'_>>) -> Option<Text> {
    match value.get_ref() {
        DeValue::Array(items) => {
            let texts: Option<Vec<String>> = items.iter().map(|item| scalar_of(item.get_ref())).collect();
            texts.map(Text::Many)
        }
        other => scalar_of(other).map(Text::One),
    }
}

fn scalar_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// Lets variables replace what the file says.
pub(super) fn overlay(values: &mut Values, environment: impl IntoIterator<Item = (String, String)>) {
    for (name, text) in environment {
        let Some((section, key)) = name.strip_prefix(ENVIRONMENT_PREFIX).and_then(|rest| rest.split_once("__")) else {
            continue;
        };
        let place = (section.to_lowercase(), key.to_lowercase());
        values.insert(place, Value { origin: Origin::Environment, text: Text::One(text) });
    }
}
