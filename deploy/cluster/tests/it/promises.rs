//! Promises 1 to 5 of the design, with real components and several edges on one authority.

mod away;
mod closed;
mod connections;
mod ports;
mod served;
