//! What is logged, to standard error.
//!
//! Invariant: no filter lets pingora log request heads, which hold keys and cookies.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};

use crate::settings::Settings;

/// Pingora reports each port that closes, and as an error each client that breaks off; the edge says itself what
/// went wrong and whose fault it was.
pub const DEFAULT_FILTER: &str =
    "info,pingora_core=warn,pingora_proxy=off,sea_orm_migration=warn,sqlx=warn,sqlx_core=warn";

/// What is logged and how.
#[derive(Debug, Clone)]
pub struct LogSettings {
    filter: String,
    is_json: bool,
}

// === impl LogSettings ===

impl LogSettings {
    /// `filter` is a level or a list like `info,edge=debug`.
    pub fn new(filter: impl Into<String>, is_json: bool) -> Self {
        Self { filter: filter.into(), is_json }
    }

    /// The section `[log]`.
    pub fn read(settings: &mut Settings<'_>) -> Self {
        let filter = settings.or("log", "filter", DEFAULT_FILTER.to_owned());
        if let Err(error) = parse(&filter) {
            settings.refuse("log", "filter", &error.to_string());
        }
        Self { filter, is_json: settings.or("log", "json", false) }
    }

    /// Begins to log.
    ///
    /// # Errors
    /// If the filter does not parse.
    pub fn start(&self) -> Result<(), ParseError> {
        let log = tracing_subscriber::fmt().with_env_filter(parse(&self.filter)?).with_writer(std::io::stderr);
        if self.is_json {
            log.json().init();
        } else {
            log.with_ansi(std::io::stderr().is_terminal()).init();
        }
        Ok(())
    }
}

/// What pingora says at level trace holds whole request heads: nobody gets that.
fn parse(text: &str) -> Result<EnvFilter, ParseError> {
    const CAPPED: [&str; 2] = ["pingora_core=debug", "pingora_proxy=debug"];
    let filter = EnvFilter::try_new(text)?;
    let is_talkative = filter.max_level_hint().is_none_or(|level| level >= LevelFilter::TRACE);
    if !is_talkative {
        return Ok(filter);
    }
    CAPPED.into_iter().try_fold(filter, |filter, directive| Ok(filter.add_directive(directive.parse()?)))
}
