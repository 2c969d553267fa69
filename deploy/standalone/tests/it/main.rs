//! The whole proxy, in one process or as the program that people start.

mod apps;
mod child;
mod circuits;
mod cli;
mod connections;
mod harness;
mod ports;
mod program;
