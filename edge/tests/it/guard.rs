//! What the edge does not let in.

mod corpus;
