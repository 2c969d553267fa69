//! What a request head must be before anybody acts on it.
//!
//! Two readers that disagree about where a message ends or for whom it is are how requests are smuggled, so whatever
//! two readers could read in two ways is refused here, although RFC 9112 lets a server repair some of it. What clients
//! really send is accepted: empty lines before a request (they are gone before), bytes above ASCII in values, any
//! method, `Upgrade` where nothing is upgraded.
//!
//! Invariant: nothing here does I/O, allocates, or knows pingora. Each byte of a head of HTTP/1 is looked at once for
//! what no head may have, and those of names and of the few fields that matter once more.

mod fields;
mod frames;
mod host;
mod http1;
mod http2;
mod lines;
mod meter;
mod pace;
mod request_line;
mod rule;

pub use http1::{Judged, judge_http1, judge_start};
pub use http2::judge_http2;
pub(crate) use meter::{Abuse, Meter};
pub(crate) use pace::Pace;
pub use rule::Rule;

/// The longest head: a request with the cookies of a few notebook servers has 8 KiB.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The longest request target: half of a head. RFC 9112 §3 asks for 8,000 bytes at least.
pub const MAX_TARGET_BYTES: usize = 32 * 1024;

/// The longest method. The longest registered one, `UPDATEREDIRECTREF`, has 17 bytes.
pub const MAX_METHOD_BYTES: usize = 32;

/// The longest field name. Cloud consoles send names of 60 bytes.
pub const MAX_NAME_BYTES: usize = 256;

/// The longest field value: half of a head. Kerberos tickets have up to 16 KiB in base64.
pub const MAX_VALUE_BYTES: usize = 32 * 1024;

/// Fields of one head, as many as pingora accepts: 180 cookies, the most that a browser keeps for a site, each in a field
/// of its own as HTTP/2 sends them, beside 76 other fields.
pub const MAX_FIELDS: usize = 256;

/// `Cookie` fields of one head: 180 crumbs and some to spare.
pub const MAX_COOKIE_FIELDS: usize = 192;
