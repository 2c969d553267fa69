//! The contracts that several crates rely on, driven from outside.

mod memory_registry;
