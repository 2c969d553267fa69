//! Promises 1 to 5 of the design, with real components and two edges on one authority.

mod closed;
mod served;
