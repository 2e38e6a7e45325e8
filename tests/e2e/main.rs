//! The whole system as a user runs it: separate processes of the built binary on loopback, and real programs through them.
//!
//! No port is fixed, nothing waits for a length of time: a test waits for a line, a state or an end, each with a deadline.

mod lab;

mod process;

mod programs;

mod service;

mod unprivileged;

mod demo;

mod lifecycle;

mod trouble;
