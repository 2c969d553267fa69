//! What goes wrong around a cluster: the API says what happened, edges go on serving, and all is in place again
//! afterwards with no hand laid on.

mod clocks;
mod crashes;
mod database;
mod registry;
mod replaced;
