//! What fuzz targets and the program that writes their corpora share.
//!
//! # Layout
//! `fuzz_targets/` has a target a file, `corpus/` a folder for each of them, `examples/corpora.rs` writes those folders.
//!
//! # Invariants
//! A target says what must be true of whatever its input is, and panics if it is not: that it does not panic by itself is
//! the least of it.

pub mod signed;
